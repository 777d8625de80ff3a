//! The one place where ioctls with a structure are issued.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::error::check;

/// An ioctl's number together with the structure that it reads and writes.
pub(super) struct Request<T> {
    number: libc::Ioctl,
    argument: std::marker::PhantomData<fn(&mut T)>,
}

impl<T> Request<T> {
    /// `_IOR`: the kernel fills the structure.
    ///
    /// # Safety
    /// `T` is the structure that the kernel's header names for this number: same size, same layout (`repr(C)`), made of
    /// integers only, so that the kernel may write any bytes into it; pointers in it are the caller's affair at the call.
    pub(super) const unsafe fn read(kind: u32, number: u32) -> Self {
        Self {
            number: libc::_IOR::<T>(kind, number),
            argument: std::marker::PhantomData,
        }
    }

    /// `_IOW`: the kernel reads the structure.
    ///
    /// # Safety
    /// As for [`Request::read`].
    pub(super) const unsafe fn write(kind: u32, number: u32) -> Self {
        Self {
            number: libc::_IOW::<T>(kind, number),
            argument: std::marker::PhantomData,
        }
    }

    /// `_IOWR`: both.
    ///
    /// # Safety
    /// As for [`Request::read`].
    pub(super) const unsafe fn read_write(kind: u32, number: u32) -> Self {
        Self {
            number: libc::_IOWR::<T>(kind, number),
            argument: std::marker::PhantomData,
        }
    }

    /// A number of its own, from before numbers said what they do.
    ///
    /// # Safety
    /// As for [`Request::read`].
    pub(super) const unsafe fn numbered(number: u32) -> Self {
        Self {
            number: number as libc::Ioctl,
            argument: std::marker::PhantomData,
        }
    }

    /// Issues it.
    pub(super) fn call(&self, fd: impl AsFd, argument: &mut T) -> io::Result<()> {
        // SAFETY: the descriptor is open for the call, and by the constructor's promise the kernel touches no more than
        // the structure, leaving a valid value in it.
        let result = unsafe {
            libc::ioctl(
                fd.as_fd().as_raw_fd(),
                self.number as _,
                std::ptr::from_mut(argument),
            )
        };
        check(result.into()).map(drop)
    }
}
