//! Takes the tables of encodings out of what a module's memory begins with.
//!
//! The compiler has them in an active data segment, which every VM of a proxy copies into its memory when it is made: two on the main thread
//! too, which never count, and whether a model uses the encoding or not. As passive segments they stay in the module, of which a process has
//! one for all VMs, and a VM copies a table when it first counts with it: `penstock-tokens` calls an exported function that does nothing then,
//! whose body is replaced here.
//!
//! Of WebAssembly's binary format (the core specification, chapter 5) this knows as much as that takes.

/// What `penstock-tokens` exports: with the address of a table, it is to be there afterwards.
const LOAD: &[u8] = b"penstock_load_table";
/// How a table begins, and the version of the layout that is known here (`filters/tokens/tables/src/layout.rs`).
const MAGIC: &[u8; 4] = b"PSTK";
const VERSION: u32 = 3;
/// Words of a table's header before the lengths of its sections, and how many these are.
const FIXED_WORDS: usize = 6;
const SECTIONS: usize = 13;

const IMPORTS: u8 = 2;
const EXPORTS: u8 = 7;
const CODE: u8 = 10;
const DATA: u8 = 11;
const DATA_COUNT: u8 = 12;

const PREAMBLE: &[u8] = b"\0asm\x01\0\0\0";

/// The module with its tables in passive segments; as it is, where it has none.
///
/// # Errors
/// When it is no module as the compiler makes them, or has tables and nothing that loads them.
pub fn pack(module: &[u8]) -> Result<Vec<u8>, String> {
    let sections = sections(module)?;
    let section = |id: u8| sections.iter().find(|(other, _)| *other == id).map_or(&[][..], |(_, bytes)| *bytes);
    let segments = split(segments(section(DATA))?)?;
    if segments.iter().all(|segment| !segment.is_table) {
        return Ok(module.to_vec());
    }
    let load = exported(section(EXPORTS), LOAD)?.ok_or("it has tables, and exports nothing that loads them")?;
    let code = load.checked_sub(imported(section(IMPORTS))?).ok_or("what loads tables is imported")?;
    let code = with_body(section(CODE), code, &loading(&segments))?;
    Ok(put_together(&sections, &code, &segments))
}

/// A table, and its place in memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    pub at: u32,
    pub bytes: Vec<u8>,
}

/// The module without its tables, and these, each with the place in memory where it is to be before the module counts.
///
/// # Errors
/// When it is no module as the compiler makes them.
pub fn taken_out(module: &[u8]) -> Result<(Vec<u8>, Vec<Table>), String> {
    let sections = sections(module)?;
    let section = |id: u8| sections.iter().find(|(other, _)| *other == id).map_or(&[][..], |(_, bytes)| *bytes);
    let (tables, rest): (Vec<_>, Vec<_>) =
        split(segments(section(DATA))?)?.into_iter().partition(|segment| segment.is_table);
    let tables = tables.into_iter().map(|table| Table { at: table.at, bytes: table.bytes.to_vec() }).collect();
    Ok((put_together(&sections, section(CODE), &rest), tables))
}

/// The sections of a module, by their numbers.
fn sections(module: &[u8]) -> Result<Vec<(u8, &[u8])>, String> {
    let mut rest = Reader(module.strip_prefix(PREAMBLE).ok_or("this is no WebAssembly module")?);
    let mut sections = Vec::new();
    while !rest.0.is_empty() {
        let (id, length) = (rest.byte()?, rest.number()?);
        sections.push((id, rest.take(length as usize)?));
    }
    Ok(sections)
}

/// A module of these sections, with other code and other data.
fn put_together(sections: &[(u8, &[u8])], code: &[u8], segments: &[Segment<'_>]) -> Vec<u8> {
    let mut module = PREAMBLE.to_vec();
    let mut put = |id: u8, bytes: &[u8]| {
        module.push(id);
        put_bytes(&mut module, bytes);
    };
    for (id, bytes) in sections {
        match *id {
            // Code that names segments has to know how many there are before it comes.
            CODE => {
                put(DATA_COUNT, &number(segments.len() as u32));
                put(CODE, code);
            }
            DATA => put(DATA, &data(segments)),
            DATA_COUNT => {}
            id => put(id, bytes),
        }
    }
    module
}

/// What stands at a place of the memory.
struct Segment<'a> {
    at: u32,
    bytes: &'a [u8],
    is_table: bool,
}

/// The data section's segments, all of which have a constant place.
fn segments(data: &[u8]) -> Result<Vec<Segment<'_>>, String> {
    let mut rest = Reader(data);
    let count = if data.is_empty() { 0 } else { rest.number()? };
    let mut segments = Vec::new();
    for _ in 0..count {
        let [0, 0x41] = [rest.byte()?, rest.byte()?] else { return Err("a data segment has no constant place".into()) };
        let at = rest.signed()?;
        if rest.byte()? != 0x0b {
            return Err("a data segment has no constant place".into());
        }
        let length = rest.number()?;
        segments.push(Segment { at, bytes: rest.take(length as usize)?, is_table: false });
    }
    Ok(segments)
}

/// The same with each table in a segment of its own.
fn split(segments: Vec<Segment<'_>>) -> Result<Vec<Segment<'_>>, String> {
    let mut all = Vec::new();
    for Segment { mut at, mut bytes, .. } in segments {
        while let Some((before, length)) = table(bytes)? {
            let (head, rest) = bytes.split_at(before);
            let (table, rest) = rest.split_at(length);
            all.push(Segment { at, bytes: head, is_table: false });
            all.push(Segment { at: at + before as u32, bytes: table, is_table: true });
            (at, bytes) = (at + (before + length) as u32, rest);
        }
        all.push(Segment { at, bytes, is_table: false });
    }
    all.retain(|segment| !segment.bytes.is_empty());
    Ok(all)
}

/// Where the first table begins, and how long it is.
fn table(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let header = (FIXED_WORDS + SECTIONS) * 4;
    let Some(at) = bytes.windows(MAGIC.len()).position(|four| four == MAGIC) else { return Ok(None) };
    let words: Vec<u32> = bytes[at..].chunks_exact(4).take(header / 4).map(word).collect();
    let length = header + words.iter().skip(FIXED_WORDS).map(|length| *length as usize).sum::<usize>();
    if words.get(1) != Some(&VERSION) || words.len() * 4 < header || bytes.len() - at < length {
        return Err(format!("there is a table of another layout than version {VERSION}, at {at}"));
    }
    Ok(Some((at, length)))
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// The body of a function that copies the table at the address that it is given.
fn loading(segments: &[Segment<'_>]) -> Vec<u8> {
    // No variables beside the argument.
    let mut body = vec![0];
    for (index, segment) in segments.iter().enumerate().filter(|(_, segment)| segment.is_table) {
        let (at, length) = (signed(segment.at), signed(segment.bytes.len() as u32));
        // local.get 0; i32.const AT; i32.eq; if
        body.extend([&[0x20, 0, 0x41], &at[..], &[0x46, 0x04, 0x40]].concat());
        // i32.const AT; i32.const 0; i32.const LENGTH; memory.init INDEX; end
        body.extend(
            [&[0x41], &at[..], &[0x41, 0, 0x41], &length[..], &[0xfc, 8], &number(index as u32), &[0, 0x0b]].concat(),
        );
    }
    body.push(0x0b);
    body
}

/// The code section with another body of one function.
fn with_body(code: &[u8], which: u32, body: &[u8]) -> Result<Vec<u8>, String> {
    let mut rest = Reader(code);
    let count = rest.number()?;
    if which >= count {
        return Err(format!("there is no function {which}"));
    }
    let mut all = number(count);
    for index in 0..count {
        let length = rest.number()?;
        let old = rest.take(length as usize)?;
        put_bytes(&mut all, if index == which { body } else { old });
    }
    Ok(all)
}

fn data(segments: &[Segment<'_>]) -> Vec<u8> {
    let mut all = number(segments.len() as u32);
    for segment in segments {
        if segment.is_table {
            all.push(1);
        } else {
            all.extend([&[0, 0x41], &signed(segment.at)[..], &[0x0b]].concat());
        }
        put_bytes(&mut all, segment.bytes);
    }
    all
}

/// The number of the function that is exported under this name.
fn exported(exports: &[u8], wanted: &[u8]) -> Result<Option<u32>, String> {
    let mut rest = Reader(exports);
    for _ in 0..rest.number()? {
        let length = rest.number()?;
        let name = rest.take(length as usize)?;
        let (kind, index) = (rest.byte()?, rest.number()?);
        if kind == 0 && name == wanted {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// How many functions are imported. They are numbered before the module's own.
fn imported(imports: &[u8]) -> Result<u32, String> {
    let mut rest = Reader(imports);
    let count = rest.number()?;
    for _ in 0..count {
        for _ in 0..2 {
            let length = rest.number()?;
            rest.take(length as usize)?;
        }
        if rest.byte()? != 0 {
            return Err("something else than functions is imported".into());
        }
        rest.number()?;
    }
    Ok(count)
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, String> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or("it is cut short")?;
        self.0 = rest;
        Ok(taken)
    }

    /// LEB128 of at most 32 bits.
    fn number(&mut self) -> Result<u32, String> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| "a number is too large".into());
            }
        }
        Err("a number is too long".into())
    }

    /// The same with a sign, which is kept as the highest bits.
    fn signed(&mut self) -> Result<u32, String> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= i64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                let unused = 64 - 7 - shift;
                return Ok((value << unused >> unused) as u32);
            }
        }
        Err("a number is too long".into())
    }
}

fn number(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn signed(value: u32) -> Vec<u8> {
    let mut value = value as i32;
    let mut bytes = Vec::new();
    loop {
        let (byte, rest) = (value as u8 & 0x7f, value >> 7);
        // Bit 6 of the last byte is the sign.
        if rest == 0 && byte & 0x40 == 0 || rest == -1 && byte & 0x40 != 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
        value = rest;
    }
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend(number(bytes.len() as u32));
    to.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table whose first section has this in it.
    fn a_table(version: u32, content: &[u8]) -> Vec<u8> {
        let lengths = [content.len() as u32].into_iter().chain([0; SECTIONS - 1]);
        let words = [word(MAGIC), version, 0, 0, 0, 0].into_iter().chain(lengths);
        words.flat_map(u32::to_le_bytes).chain(content.iter().copied()).collect()
    }

    /// A module with one imported function and two of its own, the second of which loads tables; and this data at 1,000.
    fn a_module(export: &[u8], content: &[u8]) -> Vec<u8> {
        let import = [&[1, 1, b'm', 1, b'f', 0, 0][..]].concat();
        let mut exports = vec![1];
        put_bytes(&mut exports, export);
        exports.extend([0, 2]);
        let code = vec![2, 2, 0, 0x0b, 2, 0, 0x0b];
        let mut data = [&[1, 0, 0x41][..], &signed(1000), &[0x0b]].concat();
        put_bytes(&mut data, content);
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        for (id, bytes) in [(IMPORTS, import), (EXPORTS, exports), (CODE, code), (DATA, data)] {
            module.push(id);
            put_bytes(&mut module, &bytes);
        }
        module
    }

    #[test]
    fn tables_become_passive_and_what_stands_between_them_stays_where_it_is() {
        let (one, two) = (a_table(VERSION, b"one"), a_table(VERSION, b"and two"));
        let content = [b"before", &one[..], b"between", &two, b"after"].concat();
        let packed = pack(&a_module(LOAD, &content)).expect("packed");
        let mut rest = Reader(&packed[8..]);
        let mut sections = Vec::new();
        while !rest.0.is_empty() {
            let (id, length) = (rest.byte().expect("an id"), rest.number().expect("a length"));
            sections.push((id, rest.take(length as usize).expect("a section")));
        }
        assert_eq!(sections.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [IMPORTS, EXPORTS, DATA_COUNT, CODE, DATA]);
        assert_eq!(sections[2].1, [5]);
        let place = |at: usize| [&[0, 0x41], &signed(at as u32)[..], &[0x0b]].concat();
        let mut expected = vec![5];
        for (head, bytes) in [
            (place(1000), &b"before"[..]),
            (vec![1], &one),
            (place(1006 + one.len()), b"between"),
            (vec![1], &two),
            (place(1013 + one.len() + two.len()), b"after"),
        ] {
            expected.extend(head);
            put_bytes(&mut expected, bytes);
        }
        assert_eq!(sections[4].1, expected);
        // The first function is as it was.
        assert!(sections[3].1.starts_with(&[2, 2, 0, 0x0b]), "{:?}", sections[3].1);
        assert_eq!(sections[3].1.windows(2).filter(|two| *two == [0xfc, 8]).count(), 2);
    }

    #[test]
    fn tables_are_taken_out() {
        let table = a_table(VERSION, b"one");
        let (module, tables) =
            taken_out(&a_module(LOAD, &[b"before", &table[..], b"after"].concat())).expect("taken out");
        let place = |at: usize| [&[0, 0x41], &signed(at as u32)[..], &[0x0b]].concat();
        let mut expected = vec![2];
        for (head, bytes) in [(place(1000), &b"before"[..]), (place(1006 + table.len()), b"after")] {
            expected.extend(head);
            put_bytes(&mut expected, bytes);
        }
        let all = sections(&module).expect("sections");
        assert_eq!(all.last(), Some(&(DATA, &expected[..])));
        assert_eq!(tables, [Table { at: 1006, bytes: table }]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let table = a_table(VERSION, b"content");
        let nothing = a_module(LOAD, b"no table");
        assert_eq!(pack(&nothing), Ok(nothing.clone()));
        for (module, why) in [
            (a_module(b"another", &table), "exports nothing that loads them"),
            (a_module(LOAD, &a_table(VERSION + 1, b"")), "another layout"),
            (a_module(LOAD, &table[..table.len() - 1]), "another layout"),
            (b"\0asm\x02\0\0\0".to_vec(), "no WebAssembly module"),
            (nothing[..nothing.len() - 1].to_vec(), "cut short"),
        ] {
            let refused = pack(&module).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for value in [0, 1, 63, 64, 127, 128, 8191, 8192, 1 << 20, i32::MAX as u32, 1 << 31, u32::MAX] {
            assert_eq!(Reader(&number(value)).number(), Ok(value));
            assert_eq!(Reader(&signed(value)).signed(), Ok(value));
        }
    }
}
