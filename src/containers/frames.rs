//! The stream of an exec without a terminal: frames of one of two outputs.
//!
//! A frame is 8 bytes (the output: 1 or 2; three zeros; the length, big-endian) and then so many bytes of it. What
//! comes here is a container's to choose: of the text, its end is kept and no more.

use std::collections::VecDeque;

/// So much of what a command says is kept, from its end.
const KEPT: usize = 2_048;
/// The longest first line that is kept by itself.
const FIRST_LINE: usize = 512;

/// Takes the stream apart.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: Vec<u8>,
    is_error: bool,
    left: usize,
    /// The first line of standard output, which is not the command's own.
    first: Option<String>,
    line: Vec<u8>,
    kept: VecDeque<u8>,
    lost: bool,
}

impl Frames {
    /// Takes more of the stream.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left == 0 {
                let part = bytes.len().min(8 - self.head.len());
                self.head.extend_from_slice(&bytes[..part]);
                bytes = &bytes[part..];
                if let [stream, _, _, _, a, b, c, d] = self.head[..] {
                    self.is_error = stream == 2;
                    self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                    self.head.clear();
                }
                continue;
            }
            let part = bytes.len().min(self.left);
            self.text(&bytes[..part]);
            self.left -= part;
            bytes = &bytes[part..];
        }
    }

    fn text(&mut self, mut bytes: &[u8]) {
        if self.first.is_none() && !self.is_error {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = end.unwrap_or(bytes.len());
            let room = FIRST_LINE - self.line.len();
            self.line.extend_from_slice(&bytes[..part.min(room)]);
            if end.is_none() && self.line.len() < FIRST_LINE {
                return;
            }
            self.first = Some(String::from_utf8_lossy(&self.line).into_owned());
            bytes = match part <= room {
                true => &bytes[(part + 1).min(bytes.len())..],
                // Too long for a number: what it says goes on.
                false => &bytes[room..],
            };
        }
        self.kept.extend(bytes);
        let extra = self.kept.len().saturating_sub(KEPT);
        self.lost |= extra > 0;
        self.kept.drain(..extra);
    }

    /// The first line of standard output, once there is one and it is a number: the process id.
    pub fn pid(&self) -> Option<&str> {
        let is_number = |line: &&str| !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit());
        self.first.as_deref().filter(is_number)
    }

    /// What was said after that, by both outputs as it came, on one line; where it was long, its end.
    pub fn said(&self) -> String {
        // Where the command could not even be begun, the engine says why in the place of its output.
        let line = match (self.pid(), &self.first) {
            (None, Some(first)) => first.clone().into_bytes(),
            (None, None) => self.line.clone(),
            (Some(_), _) => Vec::new(),
        };
        let mut bytes: Vec<u8> = line;
        bytes.push(b'\n');
        bytes.extend(&self.kept);
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let line: String = lines
            .join("; ")
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        if self.lost { format!("… {line}") } else { line }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend(u32::try_from(text.len()).expect("short").to_be_bytes());
        frame.extend(text.as_bytes());
        frame
    }

    #[test]
    fn frames_are_put_together_however_they_come() {
        let stream = [
            frame(2, "warning\n"),
            frame(1, "1"),
            frame(1, "7\nCHECK"),
            frame(1, ""),
            frame(1, "POINT\n"),
        ]
        .concat();
        for step in [1, 3, 8, 1000] {
            let mut frames = Frames::default();
            stream.chunks(step).for_each(|part| frames.take(part));
            assert_eq!(frames.pid(), Some("17"), "in steps of {step}");
            assert_eq!(frames.said(), "warning; CHECKPOINT");
        }
    }

    #[test]
    fn of_much_the_end_is_kept() {
        let mut frames = Frames::default();
        frames.take(&frame(1, "1\n"));
        for _ in 0..1000 {
            frames.take(&frame(2, "nothing new under the sun\r\n"));
        }
        frames.take(&frame(2, "disk full\x1b[0m\n"));
        let said = frames.said();
        assert!(said.len() < KEPT + 8 && said.starts_with('…'), "{said}");
        assert!(said.ends_with("disk full [0m"), "{said}");
        let mut endless = Frames::default();
        endless.take(&frame(1, &"x".repeat(100_000)));
        assert!(endless.pid().is_none() && endless.said().len() <= KEPT + FIRST_LINE + 8);
        let mut refused = Frames::default();
        refused.take(&frame(1, "unable to find user nobody.at.all\r\n"));
        assert_eq!(refused.said(), "unable to find user nobody.at.all");
    }
}
