//! Memory, before it is written to.

use std::mem::MaybeUninit;

/// The kernel's page size on every machine that this is built for; a larger one only makes the kernel do less at a time.
const PAGE: usize = 4096;

/// Has the kernel give `bytes` their pages in one go, where each would otherwise be a fault of its own at the first write. What is in
/// them stays. Kernels before 5.14 cannot do that (madvise(2), `MADV_POPULATE_WRITE`); there, as in any other failure, the faults
/// come one by one as ever.
pub fn populate(bytes: &mut [MaybeUninit<u8>]) {
    // Only whole pages: what shares the first and the last with others has them already, or gets them by a fault.
    let range = bytes.as_mut_ptr_range();
    let begin = (range.start as usize).next_multiple_of(PAGE);
    let end = range.end as usize / PAGE * PAGE;
    if begin < end {
        // SAFETY: the pages lie within memory that the caller may write to, and the advice changes no byte of it.
        unsafe { libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_POPULATE_WRITE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Page faults of this thread so far: field 10 of its stat, the 8th after the name's parenthesis (proc_pid_stat(5)).
    fn faults() -> usize {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("it is there");
        let (_, fields) = stat.rsplit_once(") ").expect("a name");
        fields
            .split(' ')
            .nth(7)
            .and_then(|field| field.parse().ok())
            .expect("a number")
    }

    #[test]
    fn pages_come_without_a_fault_for_each_and_with_what_was_in_them() {
        const PAGES: usize = 1024;
        let mut bytes: Vec<u8> = Vec::with_capacity(PAGES * PAGE);
        bytes.extend_from_slice(b"there already");
        populate(bytes.spare_capacity_mut());
        let before = faults();
        bytes.resize(PAGES * PAGE, 7);
        let taken = faults() - before;
        assert!(taken < PAGES / 8, "{taken} faults for {PAGES} pages");
        assert!(bytes.starts_with(b"there already"));
    }

    #[test]
    fn nothing_and_less_than_a_page_are_left_alone() {
        populate(&mut []);
        let mut few = [MaybeUninit::new(7_u8); 100];
        populate(&mut few);
    }
}
