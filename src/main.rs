//! The windlass binary.

/// Every allocation goes through mimalloc: musl's own allocator is slow under threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    println!("windlass");
}
