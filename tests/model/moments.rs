//! Times by chance, in the spellings that producers have, and some that are off.

use super::digits;
use crate::json::{Chance, Json};

/// A time in one of its spellings, at times one that is off.
pub(super) fn moment(chance: &mut Chance) -> Json {
    let seconds = chance.below(4_300_000_000);
    let fraction = digits(chance, 12);
    match chance.below(13) {
        0 => Json::number(seconds),
        10 => {
            let digits = 19_000_000 + chance.below(4_000_000);
            if chance.percent(50) { Json::number(digits) } else { Json::text(digits.to_string()) }
        }
        11 => Json::number(format!("{}{}", chance.below(32_000_000), chance.pick(&["", ".5", ".0"]))),
        12 => other_form(chance, seconds),
        1 => Json::text(format!("{seconds}{:03}", chance.below(1000))),
        2 => Json::number(format!("{seconds}.{}", if fraction.is_empty() { "5" } else { &fraction })),
        3 => Json::number(format!("{seconds}{:06}", chance.below(1_000_000))),
        4 => Json::number(format!("{seconds}{:09}", chance.below(1_000_000_000))),
        5 => {
            Json::number(format!("{}.{:09}e{}", 1 + seconds % 4, chance.below(1_000_000_000), 9 + 3 * chance.below(4)))
        }
        _ => {
            let time = chrono::DateTime::from_timestamp(seconds as i64, 0).unwrap();
            let form = chance.pick(&["%FT%T", "%F %T", "%Ft%T", "%F"]);
            let mut text = time.format(form).to_string();
            if form != "%F" {
                if !fraction.is_empty() && chance.percent(70) {
                    text = format!("{text}.{fraction}");
                }
                text.push_str(
                    chance.pick(&["Z", "", "z", "+02:00", "-0730", "+14", "+24:00", " Z", " UTC", "gmt", "  Z", " "]),
                );
            }
            Json::Text(text)
        }
    }
}

/// A time as headers of mail and HTTP, programs and libraries write it.
fn other_form(chance: &mut Chance, seconds: u64) -> Json {
    let time = chrono::DateTime::from_timestamp(seconds as i64, 0).unwrap();
    let form = chance.pick(&[
        "%a, %d %b %Y %T GMT",
        "%a, %d %b %Y %T +0200",
        "%a, %-d %b %Y %T -0000 (UTC)",
        "%d %b %Y %H:%M",
        "%a, %d %b %Y %T EST",
        "Fri, %d %b %Y %T GMT",
        "%a %b %e %T %Y",
        "%a %b %d %Y %T GMT+0100 (CET)",
        "%b %-d, %Y %T",
        "%Y%m%dT%H%M%SZ",
        "%Y%m%dT%H%M%S.25+0200",
        "%Y%m%dT%H%M",
        "%Y%m%d%H%M%S",
        "%Y/%m/%d %T",
        "%FT%R",
        "%F %RZ",
        "%F %R+02:00",
        "%FT%H%M%S",
        "%F %T UTC",
        "%F %T.5 gmt",
        "%F %T +0000 UTC",
        "%F %T,125",
        "%FT%TZ[UTC]",
        "%FT%T+01:00[Europe/Berlin]",
        "%F %T PM",
        "%F %H",
        "%d.%m.%Y",
        "%m/%d/%Y %T",
        "%Y-%m",
        "%Y",
    ]);
    let text = time.format(form).to_string();
    let number = text.bytes().all(|byte| byte.is_ascii_digit()) && chance.percent(50);
    if number { Json::Number(text) } else { Json::Text(text) }
}
