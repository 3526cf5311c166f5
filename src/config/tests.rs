use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::*;

fn load(pairs: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let map: BTreeMap<String, OsString> = pairs.iter().map(|(k, v)| ((*k).to_owned(), OsString::from(v))).collect();
    Config::load(&|name| map.get(name).cloned())
}

fn config(pairs: &[(&str, &str)]) -> Config {
    load(pairs).unwrap_or_else(|error| panic!("{error}")).config
}

/// The faults' texts.
fn faults(pairs: &[(&str, &str)]) -> Vec<String> {
    load(pairs).expect_err("must be faulty").faults.iter().map(ToString::to_string).collect()
}

fn fault(pairs: &[(&str, &str)]) -> String {
    let mut all = faults(pairs);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn host(host: &str, port: u16) -> HostPort {
    HostPort { host: host.to_owned(), port }
}

/// A file under the system's directory for such, removed at the end of the test.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, content: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("sandarb-config-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

#[test]
fn without_any_variable_the_defaults_of_the_original_hold() {
    let Loaded { config, warnings } = load(&[]).unwrap();
    assert_eq!(warnings, []);
    let brokers: Vec<HostPort> = (1..=5).map(|n| host(&format!("broker0{n}"), 9090)).collect();
    assert_eq!(config.kafka.bootstrap, brokers);
    assert_eq!(config.kafka.topic, "sandarb_events");
    assert_eq!(config.kafka.group_id, "sandarb-clickhouse-consumer");
    assert_eq!(config.kafka.offset_reset, OffsetReset::Latest);
    assert_eq!(config.kafka.security, KafkaSecurity::Plaintext { sasl: None });
    assert_eq!(config.kafka.assignors, [AssignorName::Range, AssignorName::RoundRobin]);
    assert_eq!(config.kafka.group_instance_id, None);
    assert_eq!(config.kafka.session_timeout, Duration::from_secs(30));
    assert_eq!(config.kafka.heartbeat_interval, Duration::from_secs(3));
    assert_eq!(config.kafka.rebalance_timeout, Duration::from_secs(60));
    assert_eq!(config.kafka.isolation, Isolation::ReadCommitted);
    assert_eq!(config.kafka.fetch_min_bytes, 65_536);
    assert_eq!(config.kafka.fetch_max_wait, Duration::from_millis(500));
    let address = ClickHouseAddress { tls: false, host: host("host.docker.internal", 8123) };
    assert_eq!(config.clickhouse.addresses, [address]);
    assert_eq!(config.clickhouse.database, "sandarb");
    assert_eq!(config.clickhouse.table, "events");
    assert_eq!(config.clickhouse.user, "default");
    assert_eq!(config.clickhouse.password, Secret::Value("sandarb".to_owned()));
    assert_eq!(config.clickhouse.timeout, Duration::from_secs(20));
    assert_eq!(config.batch_size.get(), 2000);
    assert_eq!(config.batch_timeout, Duration::from_secs(5));
    assert_eq!(config.health_port, 8079);
    assert_eq!(config.health_http_status, HealthHttpStatus::Strict);
    assert_eq!(config.clickhouse.compression, Compression::Lz4);
    assert_eq!(config.log_level, LogLevel::Info);
    assert_eq!(config.memory_budget, 8 * 1024 * 1024);
    assert_eq!(config.shutdown_timeout, Duration::from_secs(25));
}

#[test]
fn an_empty_variable_is_unset_except_the_password() {
    let blank: Vec<(&str, &str)> = TABLE.iter().map(|entry| (entry.name, "")).collect();
    let config = config(&blank);
    assert_eq!(config.kafka.topic, "sandarb_events");
    assert_eq!(config.kafka.group_instance_id, None);
    assert_eq!(config.kafka.security, KafkaSecurity::Plaintext { sasl: None });
    assert_eq!(config.clickhouse.password, Secret::Value(String::new()));
}

#[test]
fn spaces_around_values_do_not_count_but_in_passwords_they_do() {
    let config = config(&[("BATCH_SIZE", " 10 "), ("KAFKA_TOPIC", "t\n"), ("CLICKHOUSE_PASSWORD", " p ")]);
    assert_eq!(config.batch_size.get(), 10);
    assert_eq!(config.kafka.topic, "t");
    assert_eq!(config.clickhouse.password, Secret::Value(" p ".to_owned()));
}

#[test]
fn numbers_take_exactly_the_range_the_table_names() {
    let mut tested = 0;
    for entry in TABLE.iter().filter(|entry| entry.allowed.contains("a whole number from ")) {
        let numbers: Vec<u64> = entry.allowed.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [min, max] = numbers[..2] else { panic!("{}", entry.name) };
        let complains = |value: &str| {
            let Err(error) = load(&[(entry.name, value)]) else { return false };
            let prefix = format!("{}={value:?} is ", entry.name);
            error.faults.iter().any(|fault| fault.to_string().starts_with(&prefix))
        };
        assert!(!complains(&min.to_string()), "{}", entry.name);
        assert!(!complains(&max.to_string()), "{}", entry.name);
        assert!(complains(&(max + 1).to_string()), "{}", entry.name);
        assert!(complains(&min.checked_sub(1).map_or_else(|| "-1".to_owned(), |n| n.to_string())), "{}", entry.name);
        for text in ["1.5", "+5", "0x10", "1_000", "many", "99999999999999999999999"] {
            assert!(complains(text), "{} {text}", entry.name);
        }
        tested += 1;
    }
    assert!(tested >= 10, "{tested}");
}

#[test]
fn all_faults_are_listed_at_once_with_variable_value_and_cure() {
    let error = load(&[
        ("BATCH_SIZE", "0"),
        ("KAFKA_TOPIC", "no/topic"),
        ("CLICKHOUSE_URL", "tcp://ch:9000"),
        ("LOG_LEVEL", "loud"),
    ])
    .unwrap_err();
    let expected = r#"4 faults in the configuration
  KAFKA_TOPIC="no/topic" is not a topic name; allowed: 1 to 249 of a-z A-Z 0-9 . _ - (. and .. alone are no names)
  CLICKHOUSE_URL="tcp://ch:9000" does not begin with http:// or https://; allowed: comma-separated http://host:port or https://host:port (80 and 443 where left out); no user, no path but /, no parameters
  BATCH_SIZE="0" is out of range; allowed: a whole number from 1 to 1000000
  LOG_LEVEL="loud" is not known; allowed: DEBUG, INFO, WARNING (WARN), ERROR (CRITICAL), in any case"#;
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_value_with_line_breaks_or_of_great_length_stays_one_short_line() {
    let text = fault(&[("LOG_LEVEL", "a\nb\u{1b}[31m")]);
    assert!(text.starts_with(r#"LOG_LEVEL="a\nb\u{1b}[31m" "#), "{text}");
    let text = fault(&[("KAFKA_TOPIC", &"ä".repeat(5_000))]);
    assert!(text.len() < 600, "{}", text.len());
}

#[test]
fn a_value_that_is_no_unicode_is_a_fault() {
    let error =
        Config::load(&|name| (name == "KAFKA_TOPIC").then(|| OsString::from_vec(vec![0xff, 0xfe]))).unwrap_err();
    assert_eq!(error.to_string(), "1 fault in the configuration\n  KAFKA_TOPIC is not valid UTF-8");
}

#[test]
fn bootstrap_lists() {
    let parsed = |text: &str| config(&[("KAFKA_BOOTSTRAP_SERVERS", text)]).kafka.bootstrap;
    assert_eq!(parsed("a:1, b:2 ,,"), [host("a", 1), host("b", 2)]);
    assert_eq!(parsed("kafka"), [host("kafka", 9092)]);
    assert_eq!(parsed("[::1]:9093,[2001:db8::2]"), [host("::1", 9093), host("2001:db8::2", 9092)]);
    assert_eq!(parsed("10.0.0.1:9092")[0].to_string(), "10.0.0.1:9092");
    assert_eq!(parsed("[::1]:9093")[0].to_string(), "[::1]:9093");
    for (text, problem) in [
        (",", "names no address"),
        (":9092", "without a usable host"),
        ("a:", "not a whole number"),
        ("a:0", "out of range"),
        ("a:65536", "out of range"),
        ("a:b", "holds a port that is not a whole number"),
        ("::1:9092", "without brackets"),
        ("[::1", "lacks the ]"),
        ("[::1]9092", "between the ] and the port"),
        ("[kafka]:9092", "no IPv6 address"),
        ("a b:1", "without a usable host"),
        ("PLAINTEXT://a:1", "more than one port"),
    ] {
        let text = fault(&[("KAFKA_BOOTSTRAP_SERVERS", text)]);
        assert!(text.contains(problem), "{text}");
    }
}

#[test]
fn clickhouse_urls() {
    let parsed = |text: &str| config(&[("CLICKHOUSE_URL", text)]).clickhouse.addresses;
    let address = |tls, name, port| ClickHouseAddress { tls, host: host(name, port) };
    assert_eq!(parsed("http://a:8123/"), [address(false, "a", 8123)]);
    assert_eq!(parsed("HTTPS://a:8443,http://[::1]:8123"), [address(true, "a", 8443), address(false, "::1", 8123)]);
    assert_eq!(parsed("http://a,https://b"), [address(false, "a", 80), address(true, "b", 443)]);
    for (text, problem) in [
        ("a:8123", "does not begin with"),
        ("http://", "without a usable host"),
        ("http://a:8123/sandarb", "holds a path"),
        ("http://a:8123//", "holds a path"),
        ("http://a:8123?x=1", "holds parameters"),
        ("http://a:8123/#x", "holds parameters"),
        (" , ", "names no address"),
    ] {
        let text = fault(&[("CLICKHOUSE_URL", text)]);
        assert!(text.contains(problem), "{text}");
    }
}

#[test]
fn a_user_or_parameter_in_an_address_is_never_shown() {
    for (name, value) in [
        ("CLICKHOUSE_URL", "http://me:hunter2@ch:8123"),
        ("CLICKHOUSE_URL", "http://me:hunter2,a@b@ch:8123"),
        ("CLICKHOUSE_URL", "hunter2@"),
        ("CLICKHOUSE_URL", "http://ch:8123/?user=me&password=hunter2"),
        ("KAFKA_BOOTSTRAP_SERVERS", "me:hunter2@kafka:9092"),
    ] {
        let text = fault(&[(name, value)]);
        assert!(!text.contains("hunter2") && !text.contains("me:"), "{text}");
    }
    let text = fault(&[("CLICKHOUSE_URL", "http://me:hunter2@ch:8123")]);
    assert!(
        text.contains("…@ch:8123") && text.contains("set CLICKHOUSE_USER and CLICKHOUSE_PASSWORD instead"),
        "{text}"
    );
}

#[test]
fn spellings_of_the_enumerations() {
    for (text, reset) in [
        ("latest", OffsetReset::Latest),
        ("largest", OffsetReset::Latest),
        ("end", OffsetReset::Latest),
        ("Earliest", OffsetReset::Earliest),
        ("smallest", OffsetReset::Earliest),
        ("beginning", OffsetReset::Earliest),
        ("none", OffsetReset::None),
        ("error", OffsetReset::None),
    ] {
        assert_eq!(config(&[("KAFKA_AUTO_OFFSET_RESET", text)]).kafka.offset_reset, reset, "{text}");
    }
    for (text, level) in [
        ("debug", LogLevel::Debug),
        ("Info", LogLevel::Info),
        ("warn", LogLevel::Warning),
        ("WARNING", LogLevel::Warning),
        ("error", LogLevel::Error),
        ("Critical", LogLevel::Error),
    ] {
        assert_eq!(config(&[("LOG_LEVEL", text)]).log_level, level, "{text}");
    }
    let strategy = |text| config(&[("KAFKA_ASSIGNMENT_STRATEGY", text)]).kafka.assignors;
    assert_eq!(strategy("roundrobin, range"), [AssignorName::RoundRobin, AssignorName::Range]);
    assert_eq!(strategy("range"), [AssignorName::Range]);
    assert!(fault(&[("KAFKA_ASSIGNMENT_STRATEGY", "range,cooperative-sticky")]).contains("unknown strategy"));
    assert!(fault(&[("KAFKA_ASSIGNMENT_STRATEGY", "range,range")]).contains("twice"));
    assert!(fault(&[("KAFKA_ASSIGNMENT_STRATEGY", ",")]).contains("names no strategy"));
    assert_eq!(config(&[("KAFKA_ISOLATION_LEVEL", "READ_UNCOMMITTED")]).kafka.isolation, Isolation::ReadUncommitted);
    assert_eq!(config(&[("HEALTH_HTTP_STATUS", "always200")]).health_http_status, HealthHttpStatus::Always200);
    assert_eq!(config(&[("CLICKHOUSE_COMPRESSION", "None")]).clickhouse.compression, Compression::None);
    for name in ["KAFKA_ISOLATION_LEVEL", "HEALTH_HTTP_STATUS", "KAFKA_SECURITY_PROTOCOL", "KAFKA_SASL_MECHANISM"] {
        assert!(fault(&[(name, "?")]).starts_with(&format!("{name}=\"?\" is not known; allowed: ")), "{name}");
    }
    for topic in [".", "..", "a b", &"t".repeat(250)] {
        assert!(fault(&[("KAFKA_TOPIC", topic)]).contains("is not a topic name"), "{topic}");
    }
    assert!(fault(&[("CLICKHOUSE_USER", "a\u{7}b")]).contains("control character"));
}

#[test]
fn derived_defaults_follow_what_they_depend_on() {
    assert_eq!(config(&[("BATCH_SIZE", "20000")]).memory_budget, 20_000 * 2048);
    assert_eq!(config(&[("BATCH_SIZE", "20000"), ("MEMORY_BUDGET_BYTES", "1048576")]).memory_budget, 1_048_576);
    assert_eq!(config(&[("BATCH_TIMEOUT_MS", "400")]).kafka.fetch_max_wait, Duration::from_millis(100));
    assert_eq!(config(&[("BATCH_TIMEOUT_MS", "1")]).kafka.fetch_max_wait, Duration::from_millis(1));
    for (session, heartbeat) in [("6000", 2_000), ("1000", 333), ("9000", 3_000), ("45000", 3_000)] {
        let kafka = config(&[("KAFKA_SESSION_TIMEOUT_MS", session)]).kafka;
        assert_eq!(kafka.heartbeat_interval, Duration::from_millis(heartbeat), "a session of {session} ms");
    }
}

#[test]
fn values_that_are_wrong_together() {
    let text = fault(&[("KAFKA_SESSION_TIMEOUT_MS", "6000"), ("KAFKA_HEARTBEAT_INTERVAL_MS", "3000")]);
    assert!(text.contains("KAFKA_HEARTBEAT_INTERVAL_MS (3000)") && text.contains("TIMEOUT_MS (6000)"), "{text}");
    let text = fault(&[("KAFKA_REBALANCE_TIMEOUT_MS", "5000"), ("CLICKHOUSE_TIMEOUT_MS", "1000")]);
    assert!(text.contains("KAFKA_REBALANCE_TIMEOUT_MS (5000)"), "{text}");
    let text = fault(&[("KAFKA_FETCH_MAX_WAIT_MS", "6000")]);
    assert!(text.contains("KAFKA_FETCH_MAX_WAIT_MS (6000) is above BATCH_TIMEOUT_MS (5000)"), "{text}");
    // A fault of its own is enough: nothing is compared with a value that is not there.
    assert_eq!(faults(&[("KAFKA_FETCH_MAX_WAIT_MS", "6000"), ("BATCH_TIMEOUT_MS", "x")]).len(), 1);
}

#[test]
fn what_works_and_is_hardly_meant_is_a_warning() {
    let warned = |pairs: &[(&str, &str)]| load(pairs).unwrap().warnings;
    assert_eq!(
        warned(&[("CLICKHOUSE_TIMEOUT_MS", "42000"), ("SHUTDOWN_TIMEOUT_MS", "50000")]),
        [Warning::InsertOutlastsRebalance { timeout_ms: 42_000, rebalance_ms: 60_000 }]
    );
    assert_eq!(
        warned(&[("SHUTDOWN_TIMEOUT_MS", "10000")]),
        [Warning::InsertOutlastsShutdown { timeout_ms: 20_000, shutdown_ms: 10_000 }]
    );
    let ca = TempFile::new("unused-ca", b"");
    assert_eq!(warned(&[("CLICKHOUSE_CA_FILE", ca.path())]), [Warning::UnusedCaFile]);
    assert_eq!(warned(&[("CLICKHOUSE_CA_FILE", ca.path()), ("CLICKHOUSE_URL", "https://ch:8443")]), []);
}

#[test]
fn kafka_logins() {
    let login = [("KAFKA_SASL_MECHANISM", "scram-sha-512"), ("KAFKA_SASL_USERNAME", "u"), ("KAFKA_SASL_PASSWORD", "p")];
    let with = |protocol| {
        let mut pairs = login.to_vec();
        pairs.push(("KAFKA_SECURITY_PROTOCOL", protocol));
        load(&pairs)
    };
    let sasl = Sasl {
        mechanism: SaslMechanism::ScramSha512,
        username: "u".to_owned(),
        password: Secret::Value("p".to_owned()),
    };
    let security = with("sasl_plaintext").unwrap().config.kafka.security;
    assert_eq!(security, KafkaSecurity::Plaintext { sasl: Some(sasl.clone()) });
    let security = with("SASL_SSL").unwrap().config.kafka.security;
    assert_eq!(security, KafkaSecurity::Tls { files: TlsFiles::default(), sasl: Some(sasl) });
    for protocol in ["PLAINTEXT", "SSL"] {
        let error = with(protocol).unwrap_err().to_string();
        assert!(error.contains("KAFKA_SECURITY_PROTOCOL asks for no login"), "{error}");
    }
    assert_eq!(faults(&[("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")]).len(), 3);
    let text = fault(&[("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"), login[0], login[1]]);
    assert!(text.starts_with("KAFKA_SASL_PASSWORD is not set, but KAFKA_SECURITY_PROTOCOL asks for a login"), "{text}");
    let mut plain = login.to_vec();
    plain[0].1 = "PLAIN";
    plain.push(("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"));
    assert_eq!(load(&plain).unwrap().warnings, [Warning::PasswordInTheClear]);
}

#[test]
fn tls_files_must_be_there_and_belong_together() {
    let (ca, cert, key) = (TempFile::new("ca", b"ca"), TempFile::new("cert", b"cert"), TempFile::new("key", b"key"));
    let ssl = ("KAFKA_SECURITY_PROTOCOL", "SSL");
    let pairs = [
        ssl,
        ("KAFKA_SSL_CA_FILE", ca.path()),
        ("KAFKA_SSL_CERT_FILE", cert.path()),
        ("KAFKA_SSL_KEY_FILE", key.path()),
    ];
    let named = |variable, file: &TempFile| NamedFile { variable, path: file.0.clone() };
    let files = TlsFiles {
        ca: Some(named("KAFKA_SSL_CA_FILE", &ca)),
        client: Some(ClientCertificate {
            certificate: named("KAFKA_SSL_CERT_FILE", &cert),
            key: named("KAFKA_SSL_KEY_FILE", &key),
        }),
    };
    assert_eq!(config(&pairs).kafka.security, KafkaSecurity::Tls { files, sasl: None });
    assert!(fault(&pairs[..3]).starts_with("KAFKA_SSL_KEY_FILE is not set, but KAFKA_SSL_CERT_FILE is set"));
    assert!(fault(&[ssl, pairs[3]]).starts_with("KAFKA_SSL_CERT_FILE is not set, but KAFKA_SSL_KEY_FILE is set"));
    assert!(fault(&pairs[1..2]).contains("asks for no encryption"));
    let text = fault(&[ssl, ("KAFKA_SSL_CA_FILE", "/nowhere/ca.pem")]);
    assert!(text.starts_with("KAFKA_SSL_CA_FILE=\"/nowhere/ca.pem\" cannot be read: No such file"), "{text}");
    assert!(fault(&[ssl, ("KAFKA_SSL_CA_FILE", "/")]).contains("is not a file"));
}

#[test]
fn secrets_from_files() {
    let read = |content: &[u8], name: &str| {
        let file = TempFile::new(name, content);
        Secret::File(file.0.clone()).read()
    };
    assert_eq!(read(b"s3cret\n", "lf").unwrap(), "s3cret");
    assert_eq!(read(b"s3cret\r\n", "crlf").unwrap(), "s3cret");
    assert_eq!(read(b" s3cret ", "spaces").unwrap(), " s3cret ");
    assert_eq!(read(b"", "empty").unwrap(), "");
    assert_eq!(read(&vec![b'x'; 65_536], "most").unwrap().len(), 65_536);
    assert!(matches!(read(b"s3cret\n\n", "two"), Err(SecretError::ControlCharacter { .. })));
    assert!(matches!(read(b"s3cret\xff", "utf8"), Err(SecretError::NotUtf8 { .. })));
    assert!(matches!(read(&vec![b'x'; 65_537], "long"), Err(SecretError::TooLong { .. })));
    for error in [read(b"s3cret\n\n", "shown-a"), read(b"s3cret\xff", "shown-b")] {
        let text = format!("{0} {0:?}", error.unwrap_err());
        assert!(text.contains("shown-") && !text.contains("s3cret"), "{text}");
    }
    assert_eq!(Secret::Value("v".to_owned()).read().unwrap(), "v");
}

#[test]
fn a_secret_comes_from_its_variable_or_from_its_file_and_can_be_rotated() {
    let file = TempFile::new("rotated", b"old\n");
    let secret = config(&[("CLICKHOUSE_PASSWORD_FILE", file.path())]).clickhouse.password;
    assert_eq!(secret.read().unwrap(), "old");
    std::fs::write(&file.0, "new").unwrap();
    assert_eq!(secret.read().unwrap(), "new");
    // Compose files pass empty variables on.
    let both = [("CLICKHOUSE_PASSWORD", ""), ("CLICKHOUSE_PASSWORD_FILE", file.path())];
    assert_eq!(config(&both).clickhouse.password.read().unwrap(), "new");
    let text = fault(&[("CLICKHOUSE_PASSWORD", "hunter2"), ("CLICKHOUSE_PASSWORD_FILE", file.path())]);
    assert_eq!(text, "CLICKHOUSE_PASSWORD and CLICKHOUSE_PASSWORD_FILE are both set; set one of them");
    let text = fault(&[("CLICKHOUSE_PASSWORD_FILE", "/nowhere/password")]);
    assert!(text.starts_with("CLICKHOUSE_PASSWORD_FILE: the secret's file /nowhere/password cannot be read"), "{text}");
    let text = fault(&[("CLICKHOUSE_PASSWORD", "hunter2\n")]);
    assert!(text.contains("control character") && !text.contains("hunter2"), "{text}");
}

#[test]
fn no_secret_in_the_debug_text_of_a_configuration() {
    let loaded = load(&[
        ("CLICKHOUSE_PASSWORD", "hunter2"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
        ("KAFKA_SASL_MECHANISM", "PLAIN"),
        ("KAFKA_SASL_USERNAME", "u"),
        ("KAFKA_SASL_PASSWORD", "hunter2"),
    ])
    .unwrap();
    assert!(!format!("{loaded:?}").contains("hunter2"));
}

#[test]
fn slips_of_the_pen_are_found_and_what_kubernetes_injects_is_not() {
    let found = |name| look_alikes([name]).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(found("KAFKA_TOPICS"), ["KAFKA_TOPICS is not read; KAFKA_TOPIC is meant?"]);
    assert_eq!(
        found("KAFKA_BOOTSTRAP_SERVER"),
        ["KAFKA_BOOTSTRAP_SERVER is not read; KAFKA_BOOTSTRAP_SERVERS is meant?"]
    );
    assert_eq!(found("CLICKHOUSE_URI"), ["CLICKHOUSE_URI is not read; CLICKHOUSE_URL is meant?"]);
    assert_eq!(found("kafka_topic"), ["kafka_topic is not read; KAFKA_TOPIC is meant?"]);
    assert_eq!(
        found("CLICKHOUSE_PASWORD_FILE"),
        ["CLICKHOUSE_PASWORD_FILE is not read; CLICKHOUSE_PASSWORD_FILE is meant?"]
    );
    for name in [
        "KAFKA_TOPIC",
        "CLICKHOUSE_PASSWORD_FILE",
        "KAFKA_PORT",
        "KAFKA_SERVICE_HOST",
        "KAFKA_SERVICE_PORT",
        "KAFKA_PORT_9092_TCP_ADDR",
        "CLICKHOUSE_PORT",
        "CLICKHOUSE_SERVICE_PORT_HTTP",
        "KAFKA_HEAP_OPTS",
        "PATH",
        "BATCH_SIZES",
    ] {
        assert_eq!(found(name), [""; 0], "{name}");
    }
}

#[test]
fn health_port_needs_nothing_else() {
    let map = BTreeMap::from([("BATCH_SIZE", "x"), ("HEALTH_PORT", "8080")]);
    assert_eq!(health_port(&|name| map.get(name).map(OsString::from)).unwrap(), 8080);
    assert_eq!(health_port(&|_| None).unwrap(), 8079);
    assert!(health_port(&|_| Some("x".into())).unwrap_err().to_string().contains("HEALTH_PORT=\"x\""));
}

#[test]
fn the_table_is_whole() {
    let names = variable_names();
    assert_eq!(names.len(), TABLE.len() + 2);
    assert!(names.contains(&"KAFKA_SASL_PASSWORD_FILE".to_owned()));
    for entry in TABLE {
        assert!(!entry.help.ends_with('.') && !entry.allowed.ends_with(';'), "{}", entry.name);
        assert!(!entry.help.contains('|') && !entry.allowed.contains('|'), "{} breaks the Markdown table", entry.name);
        assert_eq!(names.iter().filter(|name| *name == entry.name).count(), 1);
        assert!(help_table().contains(&format!("  {} ", entry.name)));
    }
    assert_eq!(readme_table().lines().count(), TABLE.len() + 2);
    assert!(readme_table().contains("\n| `BATCH_SIZE` | `2000` | Most rows of one insert. Allowed: a whole number"));
    assert!(readme_table().contains("\n| `CLICKHOUSE_PASSWORD` or `CLICKHOUSE_PASSWORD_FILE` | `sandarb` | "));
}

#[test]
fn every_variable_of_the_table_is_read() {
    let asked = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let source = |name: &str| {
        asked.borrow_mut().insert(name.to_owned());
        None
    };
    Config::load(&source).unwrap();
    assert_eq!(asked.into_inner(), variable_names().into_iter().collect());
}

#[test]
fn dead_letters_go_beside_the_topic_or_where_they_are_sent_or_nowhere() {
    let topic = |pairs: &[(&str, &str)]| config(pairs).kafka.dead_letter_topic;
    assert_eq!(topic(&[]).as_deref(), Some("sandarb_events.dlq"));
    assert_eq!(topic(&[("KAFKA_TOPIC", "other")]).as_deref(), Some("other.dlq"));
    assert_eq!(topic(&[("KAFKA_DLQ_TOPIC", " bad ")]).as_deref(), Some("bad"));
    assert_eq!(topic(&[("KAFKA_DLQ_TOPIC", "")]), None);
    let text = fault(&[("KAFKA_TOPIC", "same"), ("KAFKA_DLQ_TOPIC", "same")]);
    assert!(text.contains("KAFKA_DLQ_TOPIC is KAFKA_TOPIC (same)"), "{text}");
    assert!(fault(&[("KAFKA_DLQ_TOPIC", "no/name")]).contains("is not a topic name"));
    let long = "t".repeat(249);
    assert!(fault(&[("KAFKA_TOPIC", &long)]).contains("253 of 249 characters"));
    assert_eq!(topic(&[("KAFKA_TOPIC", &long), ("KAFKA_DLQ_TOPIC", "")]), None);
}
