//! The time zones in which a column's times are shown. What is stored is an instant; a zone matters to a reader, and to a
//! producer who leaves the offset out of a text and means local time.

/// The zones that a type name gives its DateTime and DateTime64; `None` for one that shows the server's zone.
pub fn zones(type_name: &str) -> Vec<Option<&str>> {
    let mut found = Vec::new();
    let mut rest = type_name;
    while let Some(at) = rest.find(['\'', 'D']) {
        rest = rest.get(at..).unwrap_or("");
        if let Some(quoted) = rest.strip_prefix('\'') {
            // A member of an Enum may be called anything.
            rest = after_quote(quoted);
        } else if let Some(after) = rest.strip_prefix("DateTime") {
            let after = after.strip_prefix("64").unwrap_or(after);
            let arguments = after.strip_prefix('(').and_then(|inside| inside.split_once(')'));
            found.push(arguments.and_then(|(inside, _)| inside.split('\'').nth(1)));
            rest = arguments.map_or(after, |(_, behind)| behind);
        } else {
            rest = rest.get(1..).unwrap_or("");
        }
    }
    found
}

/// What follows the quote that ends a string.
fn after_quote(text: &str) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' => return text.get(at + 1..).unwrap_or(""),
            _ => {}
        }
    }
    ""
}

/// Whether a zone is UTC, by any of the names that the tz database has for it.
pub fn is_utc(zone: &str) -> bool {
    let name = zone.strip_prefix("Etc/").unwrap_or(zone);
    ["UTC", "UCT", "GMT", "GMT0", "GMT+0", "GMT-0", "Greenwich", "Universal", "Zulu"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_found_in_types() {
        for (type_name, wanted) in [
            ("Date", vec![]),
            ("DateTime", vec![None]),
            ("Nullable(DateTime64(3))", vec![None]),
            ("DateTime('Europe/Berlin')", vec![Some("Europe/Berlin")]),
            ("Map(String, Array(DateTime64(3, 'Asia/Tokyo')))", vec![Some("Asia/Tokyo")]),
            ("Enum8('DateTime(\\'x\\')' = 1, 'D' = 2)", vec![]),
            ("Tuple(Decimal(9, 2), DateTime, DateTime64(9, 'UTC'))", vec![None, Some("UTC")]),
        ] {
            assert_eq!(zones(type_name), wanted, "{type_name}");
        }
        assert!(is_utc("UTC") && is_utc("Etc/UTC") && !is_utc("Europe/London") && !is_utc("Etc/GMT+1"));
    }
}
