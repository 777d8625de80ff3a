//! The kernel, as the rest of the house sees it.
