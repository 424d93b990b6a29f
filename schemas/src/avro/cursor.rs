//! A place in a datum, and the steps over it.
//!
//! Avro's binary encoding (specification 1.12, "Binary Encoding"): fields in order; a long is
//! zigzag in 7-bit groups, least first; a string its length and its bytes; a union the number of
//! its branch and that branch's value; an array or a map blocks of a count and that many items, the
//! last with count zero.

use super::DecodeError;
use super::shape::Shape;
use bytes::Bytes;

/// A place in a datum. Every step names its field, for the error.
pub(super) struct Cursor<'a> {
    value: &'a Bytes,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(value: &'a Bytes) -> Self {
        Self { value, at: 0 }
    }

    pub(super) fn remaining(&self) -> usize {
        self.value.len() - self.at
    }

    /// Whether the datum ends here.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            rest => Err(DecodeError::Trailing(rest)),
        }
    }

    pub(super) fn long(&mut self, field: &str) -> Result<i64, DecodeError> {
        let mut zigzag = 0_u64;
        // 10 groups of 7 bits hold 64; what the tenth has beyond them is dropped, as other
        // implementations do.
        for group in 0..10 {
            let byte = *self.value.get(self.at).ok_or(DecodeError::Truncated)?;
            self.at += 1;
            zigzag |= u64::from(byte & 0x7F) << (group * 7);
            if byte & 0x80 == 0 {
                return Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
            }
        }
        Err(malformed(field))
    }

    /// A long that is a length or a number of things.
    pub(super) fn count(&mut self, field: &str) -> Result<usize, DecodeError> {
        usize::try_from(self.long(field)?).map_err(|_| malformed(field))
    }

    /// Steps over `length` bytes; answers with where they begin.
    fn step(&mut self, length: usize) -> Result<usize, DecodeError> {
        if length > self.remaining() {
            return Err(DecodeError::Truncated);
        }
        let begin = self.at;
        self.at += length;
        Ok(begin)
    }

    /// A slice of the datum, not a copy.
    pub(super) fn bytes(&mut self, field: &str) -> Result<Bytes, DecodeError> {
        let length = self.count(field)?;
        let begin = self.step(length)?;
        Ok(self.value.slice(begin..self.at))
    }

    pub(super) fn text(&mut self, field: &str) -> Result<String, DecodeError> {
        let length = self.count(field)?;
        let begin = self.step(length)?;
        match std::str::from_utf8(&self.value[begin..self.at]) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(DecodeError::NotUtf8(field.to_owned())),
        }
    }

    /// A union of null and something else, in that order.
    pub(super) fn optional<T>(
        &mut self,
        field: &str,
        read: impl FnOnce(&mut Self, &str) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.long(field)? {
            0 => Ok(None),
            1 => read(self, field).map(Some),
            _ => Err(malformed(field)),
        }
    }

    /// The one of `branches` that the datum goes on with.
    pub(super) fn branch<'b, T>(&mut self, branches: &'b [T], field: &str) -> Result<&'b T, DecodeError> {
        let branch = self.count(field)?;
        branches.get(branch).ok_or_else(|| malformed(field))
    }

    /// Steps over a value. Whatever is not [`Shape::Fixed`] takes at least a byte, so that this
    /// ends where the datum does, however much a count declares.
    pub(super) fn skip(&mut self, shape: &Shape, field: &str) -> Result<(), DecodeError> {
        match shape {
            Shape::Fixed(length) => self.step(*length).map(|_| ()),
            Shape::Long => self.long(field).map(|_| ()),
            Shape::Sized => {
                let length = self.count(field)?;
                self.step(length).map(|_| ())
            }
            Shape::Union(branches) => {
                let branch = self.branch(branches, field)?;
                self.skip(branch, field)
            }
            Shape::Record(parts) => parts.iter().try_for_each(|part| self.skip(part, field)),
            Shape::Blocks(item) => self.skip_blocks(item, field),
        }
    }

    fn skip_blocks(&mut self, item: &Shape, field: &str) -> Result<(), DecodeError> {
        loop {
            let count = self.long(field)?;
            match usize::try_from(count) {
                Ok(0) => return Ok(()),
                Ok(count) => match item {
                    Shape::Fixed(length) => {
                        self.step(count.saturating_mul(*length))?;
                    }
                    item => {
                        for _ in 0..count {
                            self.skip(item, field)?;
                        }
                    }
                },
                // A negative count comes with the block's length, made for skipping.
                Err(_) => {
                    let length = self.count(field)?;
                    self.step(length)?;
                }
            }
        }
    }
}

pub(super) fn malformed(field: &str) -> DecodeError {
    DecodeError::Malformed(field.to_owned())
}
