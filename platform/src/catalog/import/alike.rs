//! A target that is here, and one that is to be brought in: whether they are the same, and what makes them so. Pure.

use crate::catalog::{Change, NewTarget, Target, TargetPatch};

/// Whether a target is what is to be brought in. Its state is its owner's and the recorder's affair.
pub(super) fn is_same(old: &Target, new: &NewTarget) -> bool {
    // All fields by name, so that a new one is not forgotten here.
    let NewTarget {
        url,
        description,
        headers,
        contact,
        state: _,
        rate_limit,
        retry,
        timeout,
        request,
        client_key: _,
    } = new;
    *url == old.url
        && *description == old.description
        && *headers == old.headers
        && *contact == old.contact
        && *rate_limit == old.rate_limit
        && *retry == old.retry
        && *timeout == old.timeout
        && *request == old.request
}

/// What makes a target what is to be brought in, its state left as it is.
pub(super) fn patch(old: &Target, new: NewTarget) -> TargetPatch {
    let NewTarget {
        url,
        description,
        headers,
        contact,
        state: _,
        rate_limit,
        retry,
        timeout,
        request,
        client_key,
    } = new;
    TargetPatch {
        url: Change::Set(url),
        description: Change::Set(description),
        headers: Change::Set(headers),
        contact: Change::Set(contact),
        state: Change::Keep,
        rate_limit: Change::Set(rate_limit),
        retry: Change::Set(retry),
        timeout: Change::Set(timeout),
        schemes: Change::Set(request.schemes),
        signature_headers: Change::Set(request.signature_headers),
        // The certificate that is there has its key already.
        tls: if request.tls == old.request.tls {
            Change::Keep
        } else {
            Change::Set(request.tls.map(|tls| (tls, client_key)))
        },
        verification: Change::Set(request.verification),
    }
}
