//! Streams out of the store: an object read piece by piece, and gzip as gzip itself reads it.

use std::io::{self, BufRead, Read};

use bytes::Bytes;
use flate2::bufread::GzDecoder;

use crate::engine::{EngineError, Progress, Result};
use crate::store::{Store, StoreError};

/// Large enough that an object store's latency does not count, small enough to hold.
const PIECE_BYTES: u64 = 4 << 20;

/// An object from its beginning to the end that it had when it was opened.
pub(super) struct ObjectStream<'a> {
    store: &'a dyn Store,
    path: &'a str,
    progress: &'a Progress,
    size: u64,
    /// Where the next piece begins.
    at: u64,
    piece: Bytes,
}

impl<'a> ObjectStream<'a> {
    pub(super) fn open(store: &'a dyn Store, path: &'a str, progress: &'a Progress) -> Result<Self> {
        let object = store.stat(path)?.ok_or_else(|| StoreError::NotFound {
            location: store.location(),
            path: path.to_owned(),
        })?;
        Ok(Self {
            store,
            path,
            progress,
            size: object.size,
            at: 0,
            piece: Bytes::new(),
        })
    }

    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

impl BufRead for ObjectStream<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.piece.is_empty() && self.at < self.size {
            self.progress.check().map_err(io::Error::other)?;
            let length = PIECE_BYTES.min(self.size - self.at);
            let piece = self.store.get_range(self.path, self.at, length);
            self.piece = piece.map_err(|error| io::Error::other(EngineError::from(error)))?;
            if self.piece.len() as u64 != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.at += length;
            self.progress.done(length, 0);
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, amount: usize) {
        let _ = self.piece.split_to(amount);
    }
}

impl Read for ObjectStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let count = ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ready[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// What is in a gzip file, every member verified by its checksum and length.
///
/// Members one after the other are one stream, and zeros after the last one are padding, as gzip has it. Anything else
/// after it is an error here, where gzip warns: nothing of Convoy's writes it, so the object is not what was written.
pub(super) struct Gunzip<R: BufRead> {
    /// None after the end.
    member: Option<GzDecoder<R>>,
    /// The name of the file that was compressed, from the first member's header.
    name: Option<Vec<u8>>,
}

impl<R: BufRead> Gunzip<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            member: Some(GzDecoder::new(input)),
            name: None,
        }
    }

    /// The name of the file that was compressed, once something was read, and where gzip noted one.
    pub(super) fn name(&self) -> Option<&[u8]> {
        self.name.as_deref()
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(buffer)?;
            if self.name.is_none() {
                let name = member.header().and_then(|header| header.filename());
                self.name = name.map(<[u8]>::to_owned);
            }
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let rest = self.member.take().expect("it was just read").into_inner();
            self.member = next_member(rest)?;
        }
        Ok(0)
    }
}

fn next_member<R: BufRead>(mut rest: R) -> io::Result<Option<GzDecoder<R>>> {
    let mut padding = false;
    loop {
        let ready = rest.fill_buf()?;
        let Some(first) = ready.first() else {
            return Ok(None);
        };
        if *first != 0 {
            if padding || *first != 0x1f {
                let why = "something follows the end of the gzip data";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            return Ok(Some(GzDecoder::new(rest)));
        }
        padding = true;
        let zeros = ready.iter().take_while(|byte| **byte == 0).count();
        rest.consume(zeros);
    }
}

/// The engine's error that an I/O error carries, or what `otherwise` makes of a plain one.
pub(super) fn unwrap(error: io::Error, otherwise: impl FnOnce(String) -> EngineError) -> EngineError {
    match error.downcast::<EngineError>() {
        Ok(inner) => inner,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            otherwise("it ends too early".to_owned())
        }
        Err(error) => otherwise(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(bytes).expect("compressed");
        writer.finish().expect("compressed")
    }

    fn gunzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Gunzip::new(bytes).read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn members_are_one_stream_and_zeros_are_padding() {
        let two = [gzip(b"one "), gzip(b"two"), vec![0; 700]].concat();
        assert_eq!(gunzip(&two).expect("read"), b"one two");
    }

    #[test]
    fn what_is_cut_or_followed_by_something_is_an_error() {
        let whole = gzip(&[7; 5000]);
        for length in 0..whole.len() {
            assert!(gunzip(&whole[..length]).is_err(), "{length}");
        }
        for tail in [&b"x"[..], b"\0\0x", b"\x1f", b"\x1f\x8b\x08", b"\0\x1f\x8b"] {
            assert!(gunzip(&[&whole[..], tail].concat()).is_err(), "{tail:?}");
        }
    }
}
