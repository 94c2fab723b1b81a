//! The names of fields, as answers spell them.
//!
//! To find a name in the spelling in which it came last costs half of what it takes to fold its
//! case, check its letters and look whether it is a common one. One that is not common needs no
//! memory of its own again.

use std::cell::RefCell;

use http::HeaderName;

/// How many spellings are kept, each in a place of its own.
const PLACES: usize = 64;

/// Longer names are read each time.
const LONGEST: usize = 24;

#[derive(Debug)]
struct Known {
    spelled: [u8; LONGEST],
    length: usize,
    name: HeaderName,
}

thread_local! {
    /// Never borrowed across an await.
    static KNOWN: RefCell<[Option<Known>; PLACES]> =
        const { RefCell::new([const { None }; PLACES]) };
}

/// The name that is spelled so; none if it is no name.
pub(super) fn name(spelled: &[u8]) -> Option<HeaderName> {
    let [first, .., last] = spelled else { return HeaderName::from_bytes(spelled).ok() };
    let length = spelled.len();
    if length > LONGEST {
        return HeaderName::from_bytes(spelled).ok();
    }
    // Common names seldom share both ends and the length.
    let place = (usize::from(*first) ^ usize::from(*last) << 2 ^ length) % PLACES;
    KNOWN.with_borrow_mut(|all| {
        if let Some(known) = &all[place]
            && known.spelled[..known.length] == *spelled
        {
            return Some(known.name.clone());
        }
        let name = HeaderName::from_bytes(spelled).ok()?;
        let mut kept = [0; LONGEST];
        kept[..length].copy_from_slice(spelled);
        all[place] = Some(Known { spelled: kept, length, name: name.clone() });
        Some(name)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_spelling_is_read_as_the_library_reads_it_however_often(
            all in prop::collection::vec(
                prop_oneof!["[aAbB-]{1,4}", "[!-~]{0,30}", "(Server|server|ETag|Date|X-A)"], 1..60,
            ),
        ) {
            for spelled in all.iter().chain(&all) {
                let expected = HeaderName::from_bytes(spelled.as_bytes()).ok();
                prop_assert_eq!(name(spelled.as_bytes()), expected);
            }
        }
    }
}
