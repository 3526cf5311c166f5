use super::*;

#[test]
fn a_connection_is_kept_for_as_long_as_the_server_says_and_an_hour_at_most() {
    let kept = |text: &str| {
        let value = HeaderValue::from_str(text).unwrap();
        keep_alive(&HeaderMap::from_iter([(hyper::header::HeaderName::from_static("keep-alive"), value)])).as_secs()
    };
    assert_eq!(keep_alive(&HeaderMap::new()), Duration::from_secs(2));
    assert_eq!([kept("timeout=10, max=10000"), kept("max=5, timeout=3"), kept("timeout=0")], [9, 2, 0]);
    assert_eq!(kept("timeout=18446744073709551615"), 3600);
    assert_eq!(kept("timeout=soon"), 2);
}

#[test]
fn base64_is_what_rfc_4648_shows() {
    let shown = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
    assert_eq!(shown, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
}

#[test]
fn parameters_are_encoded() {
    assert_eq!(target(&[]), "/");
    assert_eq!(
        target(&[("query", "INSERT INTO `a&b` (`ü`)"), ("x", "")]),
        "/?query=INSERT%20INTO%20%60a%26b%60%20%28%60%C3%BC%60%29&x="
    );
}

#[test]
fn headers_are_understood() {
    let mut headers = HeaderMap::new();
    assert_eq!(keep_alive(&headers), Duration::from_secs(2));
    headers.insert("keep-alive", HeaderValue::from_static("timeout=30, max=9999"));
    assert_eq!(keep_alive(&headers), Duration::from_secs(29));
    let summary = HeaderValue::from_static(r#"{"read_rows":"0","written_rows":"2000","elapsed_ns":"5"}"#);
    assert_eq!(written_rows(&summary), Some(2000));
    assert_eq!(written_rows(&HeaderValue::from_static("{}")), None);
    assert_eq!(code_in("Code: 53. DB::Exception: no"), Some(53));
    assert_eq!(code_in("Code: 530"), None);
}
