//! A tar archive, entry by entry, out of an untrusted stream: ustar, GNU's and pax' extensions.
//!
//! It decodes and checks, and touches no filesystem. Lengths of extensions are bounded, checksums of headers verified, and
//! an archive that ends without its end mark is an error, because half of an archive is not a backup. Kinds of entries
//! that neither tar nor a filesystem of today makes are refused rather than guessed at.
//! (Source: POSIX.1-2017, pax; the manual of GNU tar.)

use std::io::{self, Read};

use super::pax::{self, Pax};
use super::sparse::Map;

const RECORD: usize = 512;
/// The longest extended headers and long names of one entry together, in bytes, and those of all global headers: a dozen
/// extended attributes of the largest size.
const EXTENSION_LIMIT: u64 = 1 << 20;
/// How much padding may follow the end mark, in bytes; tar writes up to a blocking factor, usually 10 KiB.
const PADDING_LIMIT: u64 = 16 << 20;

/// Why an archive cannot be read on.
#[derive(Debug)]
pub(super) enum Flaw {
    /// The stream failed or ended.
    Read(io::Error),
    /// It makes no sense.
    Damaged(String),
    /// It is of a kind that is not read.
    Foreign(String),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

type Result<T> = std::result::Result<T, Flaw>;

fn damaged<T>(why: impl Into<String>) -> Result<T> {
    Err(Flaw::Damaged(why.into()))
}

/// One entry; paths and names are as they stand in the archive, and not to be trusted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: EntryKind,
    /// Permissions, with setuid, setgid and sticky bits.
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) modified: (i64, u32),
    pub(super) accessed: Option<(i64, u32)>,
    pub(super) extended: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// Its data are to be read next, stretch by stretch; the rest of `size` is a hole.
    File {
        size: u64,
        map: Map,
    },
    Directory,
    /// With what it leads to.
    Symlink(Vec<u8>),
    /// With the path in the archive of what it is another name of.
    HardLink(Vec<u8>),
    Fifo,
    Character(u32, u32),
    Block(u32, u32),
}

/// See the module.
pub(super) struct Archive<R> {
    input: R,
    /// Bytes of the current entry that are still to be read, and the padding after them.
    data: u64,
    padding: u64,
    /// What global headers said, and how many bytes of them there were.
    global: Pax,
    global_bytes: u64,
    ended: bool,
}

impl<R: Read> Archive<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            data: 0,
            padding: 0,
            global: Pax::default(),
            global_bytes: 0,
            ended: false,
        }
    }

    /// What it is read from.
    pub(super) fn input(&self) -> &R {
        &self.input
    }

    /// The next entry; what was not read of the one before is passed over. None after the end mark, when the whole
    /// stream was read and nothing but padding followed.
    pub(super) fn next(&mut self) -> Result<Option<Entry>> {
        let mut pax = self.global.clone();
        let mut long_path = None;
        let mut long_link = None;
        let mut bytes = 0;
        loop {
            self.pass_over()?;
            if self.ended {
                return Ok(None);
            }
            let Some(header) = self.header()? else {
                if bytes > 0 {
                    return damaged("it ends after an extended header");
                }
                self.ended = true;
                self.expect_padding()?;
                return Ok(None);
            };
            match header.kind() {
                b'x' => pax
                    .apply(&self.extension(&header, &mut bytes)?)
                    .map_err(Flaw::Damaged)?,
                b'g' => {
                    let mut all = self.global_bytes;
                    let records = self.extension(&header, &mut all)?;
                    self.global_bytes = all;
                    self.global.apply(&records).map_err(Flaw::Damaged)?;
                    pax.apply(&records).map_err(Flaw::Damaged)?;
                    continue;
                }
                b'L' => long_path = Some(self.long_name(&header, &mut bytes)?),
                b'K' => long_link = Some(self.long_name(&header, &mut bytes)?),
                // A volume label names the archive itself.
                b'V' => continue,
                _ => {
                    pax.path = pax.path.or(long_path);
                    pax.link_path = pax.link_path.or(long_link);
                    return self.entry(&header, pax).map(Some);
                }
            }
        }
    }

    /// Reads data of the current entry until `buffer` is full; it must not ask for more than there is.
    pub(super) fn read_data(&mut self, buffer: &mut [u8]) -> Result<()> {
        let length = buffer.len() as u64;
        assert!(length <= self.data, "no entry has more data than it says");
        self.input.read_exact(buffer)?;
        self.data -= length;
        Ok(())
    }

    fn entry(&mut self, header: &Header, pax: Pax) -> Result<Entry> {
        if let Some(key) = pax.foreign {
            return Err(Flaw::Foreign(format!("it has {key}, which is not read")));
        }
        let path = pax
            .sparse_name
            .clone()
            .or(pax.path)
            .unwrap_or_else(|| header.path());
        let stored = match pax.size {
            Some(size) => size,
            None => header.size()?,
        };
        let regular = matches!(header.kind(), b'0' | 0 | b'7' | b'S') && !is_old_directory(header, &path);
        // The data of an entry lie behind its header whatever its kind, so this comes first.
        self.begin_data(stored)?;
        let kind = if regular {
            self.file(
                header,
                stored,
                (pax.sparse_major, pax.sparse_minor, pax.sparse_size),
            )?
        } else {
            if stored != 0 {
                return damaged(format!("{} has data, which it cannot have", path.escape_ascii()));
            }
            let link = pax.link_path.unwrap_or_else(|| header.link());
            match header.kind() {
                0 | b'0' | b'7' | b'5' => EntryKind::Directory,
                b'1' => EntryKind::HardLink(link),
                b'2' => EntryKind::Symlink(link),
                b'3' => EntryKind::Character(header.device(MAJOR)?, header.device(MINOR)?),
                b'4' => EntryKind::Block(header.device(MAJOR)?, header.device(MINOR)?),
                b'6' => EntryKind::Fifo,
                other => {
                    return Err(Flaw::Foreign(format!(
                        "{} is of a kind that is not read ({:?})",
                        path.escape_ascii(),
                        char::from(other)
                    )));
                }
            }
        };
        Ok(Entry {
            path,
            kind,
            mode: header.unsigned(MODE, "mode")? as u32 & 0o7777,
            owner: (id(pax.uid, header, UID)?, id(pax.gid, header, GID)?),
            modified: match pax.modified {
                Some(time) => time,
                None => (header.number(MTIME, "time")?, 0),
            },
            accessed: pax.accessed,
            extended: pax.extended,
        })
    }

    /// A file with data of `stored` bytes behind its header, maps included.
    fn file(
        &mut self,
        header: &Header,
        stored: u64,
        (major, minor, real): (Option<u64>, Option<u64>, Option<u64>),
    ) -> Result<EntryKind> {
        let mut map = Map::default();
        let size = if header.kind() == b'S' {
            self.old_map(header, &mut map)?;
            header.unsigned(REAL_SIZE, "real size")?
        } else if let Some(major) = major {
            if (major, minor) != (1, Some(0)) {
                return Err(Flaw::Foreign(format!(
                    "it has a sparse file of version {major}.{}, which is not read",
                    minor.unwrap_or_default()
                )));
            }
            self.new_map(&mut map)?;
            real.ok_or_else(|| Flaw::Damaged("a sparse file has no size".to_owned()))?
        } else {
            if real.is_some() {
                return Err(Flaw::Foreign(
                    "it has a sparse file of version 0, which is not read".to_owned(),
                ));
            }
            map.push(0, stored).map_err(Flaw::Damaged)?;
            stored
        };
        if size > i64::MAX as u64 {
            return damaged(format!("no file has {size} bytes"));
        }
        map.check(size, self.data).map_err(Flaw::Damaged)?;
        Ok(EntryKind::File { size, map })
    }

    /// GNU's old format: four stretches in the header, and 21 in each block that follows it.
    fn old_map(&mut self, header: &Header, map: &mut Map) -> Result<()> {
        stretches(&header.0[386..482], map)?;
        let mut more = header.0[482] != 0;
        while more {
            let mut block = [0; RECORD];
            self.input.read_exact(&mut block)?;
            stretches(&block[..504], map)?;
            more = block[504] != 0;
        }
        Ok(())
    }

    /// The pax format 1.0: decimal lines before the data, filled up to a whole record.
    fn new_map(&mut self, map: &mut Map) -> Result<()> {
        let mut lines = Lines {
            record: [0; RECORD],
            at: RECORD,
        };
        let count = lines.next(self)?;
        for _ in 0..count {
            let (offset, length) = (lines.next(self)?, lines.next(self)?);
            map.push(offset, length).map_err(Flaw::Damaged)?;
        }
        Ok(())
    }

    /// The next header with its checksum verified; None at the end mark.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut record = [0; RECORD];
        self.input.read_exact(&mut record)?;
        if record == [0; RECORD] {
            // The mark is two such records.
            self.input.read_exact(&mut record)?;
            if record != [0; RECORD] {
                return damaged("its end mark is followed by something");
            }
            return Ok(None);
        }
        let header = Header(record);
        let wanted = header.number(CHECKSUM, "checksum")?;
        let sum = |value: fn(u8) -> i64| -> i64 {
            let field = CHECKSUM.0..CHECKSUM.1;
            let bytes = record.iter().enumerate();
            bytes
                .map(|(at, byte)| value(if field.contains(&at) { b' ' } else { *byte }))
                .sum()
        };
        // Some old tars summed signed characters.
        if wanted != sum(i64::from) && wanted != sum(|byte| i64::from(byte as i8)) {
            return damaged("the checksum of a header is wrong");
        }
        Ok(Some(header))
    }

    fn begin_data(&mut self, stored: u64) -> Result<()> {
        if stored > i64::MAX as u64 {
            return damaged(format!("no entry has {stored} bytes"));
        }
        self.data = stored;
        self.padding = stored.next_multiple_of(RECORD as u64) - stored;
        Ok(())
    }

    /// The content of an extended header; `before` is how many bytes of them there were, and are then.
    fn extension(&mut self, header: &Header, before: &mut u64) -> Result<Vec<u8>> {
        let size = header.size()?;
        // An empty one counts too.
        *before += size.min(EXTENSION_LIMIT) + 1;
        if size > EXTENSION_LIMIT || *before > EXTENSION_LIMIT {
            return damaged(format!("extended headers have more than {EXTENSION_LIMIT} bytes"));
        }
        self.begin_data(size)?;
        let mut bytes = vec![0; size as usize];
        self.read_data(&mut bytes)?;
        Ok(bytes)
    }

    /// GNU's long names end with a zero byte.
    fn long_name(&mut self, header: &Header, before: &mut u64) -> Result<Vec<u8>> {
        let mut name = self.extension(header, before)?;
        name.truncate(until_zero(&name).len());
        Ok(name)
    }

    fn pass_over(&mut self) -> Result<()> {
        let left = self.data + self.padding;
        (self.data, self.padding) = (0, 0);
        if io::copy(&mut (&mut self.input).take(left), &mut io::sink())? != left {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(())
    }

    /// Reads to the end of the stream, so that gzip has verified all of it.
    fn expect_padding(&mut self) -> Result<()> {
        let mut buffer = [0; 8 << 10];
        let mut seen = 0;
        loop {
            let count = match self.input.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            if count == 0 {
                return Ok(());
            }
            seen += count as u64;
            if seen > PADDING_LIMIT || buffer[..count].iter().any(|byte| *byte != 0) {
                return damaged("its end mark is followed by something");
            }
        }
    }
}

/// The numbers before a sparse file's data, one a line.
struct Lines {
    record: [u8; RECORD],
    at: usize,
}

impl Lines {
    fn next<R: Read>(&mut self, archive: &mut Archive<R>) -> Result<u64> {
        let mut number = Vec::new();
        loop {
            if self.at == RECORD {
                if archive.data < RECORD as u64 {
                    return damaged("a map of a sparse file ends too early");
                }
                archive.read_data(&mut self.record)?;
                self.at = 0;
            }
            let byte = self.record[self.at];
            self.at += 1;
            if byte == b'\n' {
                let number = pax::digits(&number);
                return number.map_or_else(|| damaged("a map of a sparse file is malformed"), Ok);
            }
            if number.len() == 20 {
                return damaged("a map of a sparse file is malformed");
            }
            number.push(byte);
        }
    }
}

fn stretches(fields: &[u8], map: &mut Map) -> Result<()> {
    for pair in fields.chunks_exact(24) {
        if pair[0] == 0 && pair[12] == 0 {
            // Unused ones at the end are zero bytes.
            continue;
        }
        let number = |field: &[u8]| parse_number(field).and_then(|number| u64::try_from(number).ok());
        let (Some(offset), Some(length)) = (number(&pair[..12]), number(&pair[12..])) else {
            return damaged("a map of a sparse file is malformed");
        };
        map.push(offset, length).map_err(Flaw::Damaged)?;
    }
    Ok(())
}

fn id(pax: Option<u64>, header: &Header, field: Field) -> Result<u32> {
    let id = match pax {
        Some(id) => id,
        None => header.unsigned(field, "owner")?,
    };
    // The last one means "no change" to the kernel.
    match u32::try_from(id) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => damaged(format!("no user or group has the number {id}")),
    }
}

/// Tars before POSIX marked directories by a slash alone.
fn is_old_directory(header: &Header, path: &[u8]) -> bool {
    matches!(header.kind(), 0 | b'0') && path.ends_with(b"/")
}

/// Where a field begins and ends in a header.
type Field = (usize, usize);
const PATH: Field = (0, 100);
const MODE: Field = (100, 108);
const UID: Field = (108, 116);
const GID: Field = (116, 124);
const SIZE: Field = (124, 136);
const MTIME: Field = (136, 148);
const CHECKSUM: Field = (148, 156);
const LINK: Field = (157, 257);
const MAGIC: Field = (257, 263);
const MAJOR: Field = (329, 337);
const MINOR: Field = (337, 345);
const PREFIX: Field = (345, 500);
const REAL_SIZE: Field = (483, 495);

struct Header([u8; RECORD]);

impl Header {
    fn field(&self, (from, to): Field) -> &[u8] {
        &self.0[from..to]
    }

    fn kind(&self) -> u8 {
        self.0[156]
    }

    fn path(&self) -> Vec<u8> {
        let path = until_zero(self.field(PATH));
        // GNU's own format ("ustar" and a blank) keeps other things there.
        if self.field(MAGIC) == b"ustar\0" {
            let prefix = until_zero(self.field(PREFIX));
            if !prefix.is_empty() {
                return [prefix, b"/", path].concat();
            }
        }
        path.to_owned()
    }

    fn link(&self) -> Vec<u8> {
        until_zero(self.field(LINK)).to_owned()
    }

    fn size(&self) -> Result<u64> {
        self.unsigned(SIZE, "size")
    }

    fn device(&self, field: Field) -> Result<u32> {
        let number = self.unsigned(field, "device")?;
        u32::try_from(number).or_else(|_| damaged(format!("no device has the number {number}")))
    }

    fn unsigned(&self, field: Field, what: &str) -> Result<u64> {
        let number = self.number(field, what)?;
        u64::try_from(number).or_else(|_| damaged(format!("the {what} of an entry is {number}")))
    }

    fn number(&self, field: Field, what: &str) -> Result<i64> {
        parse_number(self.field(field))
            .map_or_else(|| damaged(format!("the {what} in a header is malformed")), Ok)
    }
}

/// Octal digits between blanks or zero bytes; or, with the first bit set, a big-endian number in two's complement.
fn parse_number(field: &[u8]) -> Option<i64> {
    if let Some(first) = field.first().filter(|first| **first & 0x80 != 0) {
        let negative = first & 0x40 != 0;
        // The first bit is only the mark: the sign is the one below it.
        let first = if negative { first | 0x80 } else { first & 0x7f };
        let start = i64::from(first as i8);
        return field[1..].iter().try_fold(start, |number, byte| {
            number.checked_mul(256)?.checked_add(i64::from(*byte))
        });
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    if !digits[end..].iter().all(blank) {
        return None;
    }
    digits[..end].iter().try_fold(0i64, |number, byte| {
        let digit = matches!(byte, b'0'..=b'7').then(|| i64::from(byte - b'0'))?;
        number.checked_mul(8)?.checked_add(digit)
    })
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}
