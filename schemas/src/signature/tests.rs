//! The specification's examples, and what is not a signature.

use super::*;

/// The specification's examples: secret, id, timestamp, body, signature.
const VECTORS: [(&str, &str, i64, &[u8], &str); 2] = [
    (
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        1_649_367_553,
        br#"{"email":"test@example.com","username":"test_user"}"#,
        "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    ),
    (
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        br#"{"test": 2432232314}"#,
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ),
];
const TOLERANCE: Duration = Duration::from_secs(300);

fn verify_second(header: &str, now_secs: i64) -> Result<(), VerifyError> {
    let (secret, id, timestamp, body, _) = VECTORS[1];
    let keys = [parse_secret(secret).unwrap()];
    verify(&keys, id, timestamp, body, header, now_secs, TOLERANCE)
}

#[test]
fn the_specifications_examples_come_out() {
    for (secret, id, timestamp, body, signature) in VECTORS {
        let keys = [parse_secret(secret).unwrap()];
        assert_eq!(sign(&keys, id, timestamp, body), signature);
        assert_eq!(
            verify(&keys, id, timestamp, body, signature, timestamp, TOLERANCE),
            Ok(())
        );
    }
}

#[test]
fn every_scheme_signs_with_every_key_one_scheme_after_the_other() {
    let live = |byte: u8, pair: bool| LiveKey {
        key: SigningKey::from_bytes(vec![byte; 32]),
        pair: pair.then(|| v1a::SigningPair::from_seed(&[byte; 32]).unwrap()),
        until: None,
    };
    let keys = [live(1, true), live(2, false), live(3, true)];
    let kinds = |schemes: &[Scheme]| {
        let header = sign_by(schemes, keys.iter(), "id", 1, b"{}");
        let kind = |entry: &str| entry.split(',').next().unwrap().to_owned();
        let kinds: Vec<String> = header.split(' ').map(kind).collect();
        (header, kinds)
    };
    let (header, seen) = kinds(&[Scheme::V1, Scheme::V1a]);
    assert_eq!(seen, ["v1", "v1", "v1", "v1a", "v1a"]);
    for key in &keys {
        let one = std::slice::from_ref(&key.key);
        assert_eq!(verify(one, "id", 1, b"{}", &header, 1, TOLERANCE), Ok(()));
        let pair = key.pair.as_ref();
        assert!(pair.is_none_or(|pair| v1a::verify(&pair.public_key(), "id", 1, b"{}", &header)));
    }
    assert_eq!(kinds(&[Scheme::V1a]).1, ["v1a", "v1a"]);
    let (header, seen) = kinds(&[Scheme::V1]);
    assert_eq!(seen, ["v1", "v1", "v1"]);
    assert_eq!(header, sign(keys.iter().map(|live| &live.key), "id", 1, b"{}"));
}

#[test]
fn every_key_signs_in_order_and_any_of_them_verifies() {
    let keys: Vec<_> = VECTORS.iter().map(|v| parse_secret(v.0).unwrap()).collect();
    let (_, id, timestamp, body, signature) = VECTORS[1];
    let header = sign(&keys, id, timestamp, body);
    let list: Vec<&str> = header.split(' ').collect();
    assert_eq!(list.len(), 2);
    assert_eq!(list[1], signature);
    for key in keys {
        assert_eq!(
            verify(&[key], id, timestamp, body, &header, timestamp, TOLERANCE),
            Ok(())
        );
    }
    assert_eq!(sign(&[], id, timestamp, body), "");
}

#[test]
fn what_is_not_the_signature_is_refused() {
    let (_, _, now, _, good) = VECTORS[1];
    let truncated = &good[..good.len() - 1];
    let table = [
        (good.to_owned(), Ok(())),
        (String::new(), Err(VerifyError::MissingSignature)),
        ("  ".to_owned(), Err(VerifyError::MissingSignature)),
        ("v1,".to_owned(), Err(VerifyError::NoMatch)),
        ("v1".to_owned(), Err(VerifyError::NoMatch)),
        (truncated.to_owned(), Err(VerifyError::NoMatch)),
        (format!("v1,{}", &good[7..]), Err(VerifyError::NoMatch)),
        (good.replace("v1,", "v2,"), Err(VerifyError::NoMatch)),
        (good.replace("v1,", ""), Err(VerifyError::NoMatch)),
        (format!("v1,AAAA v2,BBBB {good}"), Ok(())),
        (format!("{} {good}", good.replace("v1,", "v1a,")), Ok(())),
        ("v1,AAAA v2,BBBB v1,CCCC".to_owned(), Err(VerifyError::NoMatch)),
    ];
    for (header, expected) in table {
        assert_eq!(verify_second(&header, now), expected, "{header}");
    }
}

#[test]
fn a_timestamp_may_be_five_minutes_off_either_way() {
    let (_, _, signed_at, _, good) = VECTORS[1];
    assert_eq!(verify_second(good, signed_at + 300), Ok(()));
    assert_eq!(verify_second(good, signed_at - 300), Ok(()));
    assert_eq!(verify_second(good, signed_at + 301), Err(VerifyError::TooOld));
    assert_eq!(verify_second(good, signed_at - 301), Err(VerifyError::TooNew));
    assert_eq!(verify_second(good, i64::MAX), Err(VerifyError::TooOld));
    assert_eq!(verify_second(good, i64::MIN), Err(VerifyError::TooNew));
}

#[test]
fn id_timestamp_body_and_key_are_all_signed() {
    let (secret, id, timestamp, body, good) = VECTORS[1];
    let keys = [parse_secret(secret).unwrap()];
    let other = [parse_secret(VECTORS[0].0).unwrap()];
    let refused = Err(VerifyError::NoMatch);
    let check = |keys: &[SigningKey], id, at, body| verify(keys, id, at, body, good, at, TOLERANCE);
    assert_eq!(check(&keys, id, timestamp, body), Ok(()));
    assert_eq!(check(&keys, "msg_other", timestamp, body), refused);
    assert_eq!(check(&keys, id, timestamp + 1, body), refused);
    assert_eq!(check(&keys, id, timestamp, b"{}"), refused);
    assert_eq!(check(&other, id, timestamp, body), refused);
    assert_eq!(check(&[], id, timestamp, body), refused);
}

#[test]
fn bodies_need_not_be_text() {
    let keys = [parse_secret(VECTORS[0].0).unwrap()];
    let body = [0xff, 0, 0x80];
    let header = sign(&keys, "id", 1, &body);
    assert_eq!(verify(&keys, "id", 1, &body, &header, 1, TOLERANCE), Ok(()));
}

#[test]
fn secrets_round_trip() {
    for length in [24, 25, 26, 32, 64] {
        let key = SigningKey::from_bytes((0..length).collect());
        assert_eq!(parse_secret(&encode_secret(&key)), Ok(key));
    }
}

#[test]
fn a_wrong_secret_is_refused_and_not_shown() {
    let encoded = |length: usize| format!("whsec_{}", STANDARD.encode(vec![7; length]));
    let table = [
        (String::new(), SecretError::Prefix),
        ("C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_owned(), SecretError::Prefix),
        (
            "whsk_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_owned(),
            SecretError::Prefix,
        ),
        ("whsec_".to_owned(), SecretError::Length(0)),
        (encoded(23), SecretError::Length(23)),
        (encoded(65), SecretError::Length(65)),
        ("whsec_not base64 at all!".to_owned(), SecretError::Base64),
        (
            "whsec_C2FVsBQIhrscChlQIMV-b5sSYspob7oD".to_owned(),
            SecretError::Base64,
        ),
        (encoded(25).trim_end_matches('=').to_owned(), SecretError::Base64),
    ];
    for (text, expected) in table {
        let error = parse_secret(&text).unwrap_err();
        assert_eq!(error, expected);
        let shown = text.strip_prefix(SECRET_PREFIX).unwrap_or(&text);
        assert!(shown.is_empty() || !format!("{error} {error:?}").contains(shown));
    }
}
