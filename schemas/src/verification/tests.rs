use super::*;

const TOKEN: &str = "c0ffee";
const US: &str = "hooks.example.com";

fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes(vec![byte; 32])
}

fn reply(status: u16, body: &str) -> Reply<'_> {
    Reply {
        status,
        allowed_origin: None,
        body,
    }
}

fn judged(method: Verification, reply: Reply<'_>) -> Result<(), NoProof> {
    judge(method, reply, TOKEN, US, &[key(1), key(2)])
}

#[test]
fn each_method_asks_in_its_own_way() {
    let ask = |method| question(method, "https://example.com/hook?a=1", TOKEN, US);
    assert_eq!(ask(Verification::None), None);
    let crc = ask(Verification::Crc).unwrap();
    assert_eq!(crc.verb, "GET");
    assert_eq!(crc.url, "https://example.com/hook?a=1&crc_token=c0ffee");
    assert!(crc.body.is_empty() && crc.origin.is_none());
    let plain = question(Verification::Crc, "https://example.com/", TOKEN, US).unwrap();
    assert_eq!(plain.url, "https://example.com/?crc_token=c0ffee");
    let echo = ask(Verification::Echo).unwrap();
    assert_eq!(
        (echo.verb, echo.url.as_str()),
        ("POST", "https://example.com/hook?a=1")
    );
    let body: Value = serde_json::from_slice(&echo.body).unwrap();
    assert_eq!(body, json!({"type": "webhook.verification", "challenge": TOKEN}));
    let options = ask(Verification::CloudEvents).unwrap();
    assert_eq!((options.verb, options.origin.as_deref()), ("OPTIONS", Some(US)));
}

#[test]
fn words_read_back() {
    for method in Verification::ALL {
        assert_eq!(Verification::from_word(method.as_str()), Some(method));
    }
    assert_eq!(Verification::from_word("CRC"), None);
}

#[test]
fn the_answer_of_crc_is_one_that_others_compute_too() {
    // python3: base64.b64encode(hmac.new(key, b"c0ffee", "sha256").digest()), where key is 32 times b"\x01",
    // and where it is the text of the secret.
    let (of_bytes, of_text) = (
        "sha256=jeK/hgzVyqn4tW1KyEwGKKwRso2SV4CCiPdAbIH5iKE=",
        "sha256=VnWgo/qQ9ZxH3F8Uky6W/mU+pnpn6FuC7bwc6csHJvo=",
    );
    assert_eq!(crc_answer(&key(1), TOKEN), of_bytes);
    for answer in [of_bytes, of_text] {
        let body = json!({"response_token": answer}).to_string();
        assert_eq!(judged(Verification::Crc, reply(200, &body)), Ok(()), "{answer}");
    }
}

#[test]
fn crc_wants_the_tokens_hmac_under_a_live_secret() {
    let answer =
        |key: &SigningKey, token: &str| json!({"response_token": crc_answer(key, token)}).to_string();
    for byte in [1, 2] {
        let body = answer(&key(byte), TOKEN);
        assert_eq!(judged(Verification::Crc, reply(200, &body)), Ok(()), "{byte}");
    }
    let bare =
        json!({"response_token": crc_answer(&key(1), TOKEN).trim_start_matches("sha256=")}).to_string();
    let wrong = [
        answer(&key(3), TOKEN),
        answer(&key(1), "c0ffef"),
        bare,
        crc_answer(&key(1), TOKEN),
        TOKEN.to_owned(),
        json!({"response_token": "sha256="}).to_string(),
        json!({"response_token": 1}).to_string(),
        json!([]).to_string(),
        String::new(),
    ];
    for body in wrong {
        let verdict = judged(Verification::Crc, reply(200, &body));
        assert!(matches!(verdict, Err(NoProof::Wrong(_))), "{body}: {verdict:?}");
        assert!(!verdict.unwrap_err().may_pass());
    }
    let body = answer(&key(1), TOKEN);
    for status in [404, 429, 500, 503] {
        let verdict = judged(Verification::Crc, reply(status, &body));
        assert_eq!(verdict, Err(NoProof::Status(status)));
        assert!(verdict.unwrap_err().may_pass());
    }
    let verdict = judged(Verification::Crc, reply(302, &body));
    assert!(matches!(verdict, Err(NoProof::Wrong(_))), "{verdict:?}");
}

#[test]
fn echo_wants_the_challenge_back() {
    let right = [
        TOKEN.to_owned(),
        format!(" {TOKEN}\n"),
        json!(TOKEN).to_string(),
        json!({"challenge": TOKEN, "more": 1}).to_string(),
    ];
    for body in right {
        assert_eq!(judged(Verification::Echo, reply(202, &body)), Ok(()), "{body}");
    }
    // A server that shows what it was sent, whatever it is, does not know what it agrees to: the whole body
    // has to be the answer.
    let wrong = [
        String::new(),
        "ok".to_owned(),
        format!("{TOKEN}{TOKEN}"),
        format!("you sent {TOKEN}"),
        json!({"body": {"challenge": TOKEN}}).to_string(),
        json!({"challenge": [TOKEN]}).to_string(),
    ];
    for body in wrong {
        let verdict = judged(Verification::Echo, reply(200, &body));
        assert!(matches!(verdict, Err(NoProof::Wrong(_))), "{body}: {verdict:?}");
    }
    assert_eq!(
        judged(Verification::Echo, reply(500, TOKEN)),
        Err(NoProof::Status(500))
    );
}

#[test]
fn cloudevents_wants_our_name_or_everybodys() {
    let allowed = |status, allowed_origin| {
        judged(
            Verification::CloudEvents,
            Reply {
                status,
                allowed_origin,
                body: "",
            },
        )
    };
    for status in [200, 204, 405, 500] {
        assert_eq!(allowed(status, Some("*")), Ok(()), "{status}");
        assert_eq!(allowed(status, Some("Hooks.example.com ")), Ok(()), "{status}");
    }
    for name in [
        "example.com",
        "",
        "https://hooks.example.com",
        "hooks.example.com.evil.example",
    ] {
        assert!(
            matches!(allowed(200, Some(name)), Err(NoProof::Wrong(_))),
            "{name}"
        );
    }
    assert!(matches!(allowed(200, None), Err(NoProof::Wrong(_))));
    assert!(matches!(allowed(404, None), Err(NoProof::Wrong(_))));
    assert_eq!(allowed(503, None), Err(NoProof::Status(503)));
}
