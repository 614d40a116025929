//! From a request to its answer.

use std::{convert::Infallible, net::IpAddr};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{self, HeaderMap, HeaderValue},
    http::uri::Authority,
};
use tokio::sync::{mpsc, oneshot};

use super::{Observed, WebRequest};
use crate::observe::{metrics, page};

/// What there is to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    Page,
    Metrics,
    Status,
}

/// What is said where there is nothing.
const INDEX: &str = "Accepted: / (a page), /metrics (for Prometheus), /status.json (all reports).\n";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Answers a request that came over a connection to this machine's loopback address, or not.
pub(super) async fn answer<B>(
    request: Request<B>,
    is_local: bool,
    requests: &mpsc::Sender<WebRequest>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let view = match find(&request, is_local) {
        Ok(view) => view,
        Err((status, text)) => {
            let mut response = respond(status, PLAIN, text.into());
            if status == StatusCode::METHOD_NOT_ALLOWED {
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            return Ok(response);
        }
    };
    let (reply, observed) = oneshot::channel();
    // If it is not taken, the sender is gone, which the next line tells.
    drop(requests.try_send(WebRequest { with_history: view == View::Page, reply }));
    Ok(match observed.await {
        Ok(observed) => show(view, &observed),
        Err(_) => respond(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "The daemon is busy, or ends.\n".into()),
    })
}

fn find<B>(request: &Request<B>, is_local: bool) -> Result<View, (StatusCode, &'static str)> {
    if is_local && !is_of_this_machine(request) {
        let text = "At a loopback address this is answered for hosts localhost, 127.0.0.1 and [::1] only.\n";
        return Err((StatusCode::MISDIRECTED_REQUEST, text));
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "Nothing can be changed here. Accepted: GET, HEAD.\n"));
    }
    match request.uri().path() {
        "/" => Ok(View::Page),
        "/metrics" => Ok(View::Metrics),
        "/status.json" => Ok(View::Status),
        _ => Err((StatusCode::NOT_FOUND, INDEX)),
    }
}

/// Whether the request is for an address or for `localhost`. A page of a stranger can have a browser connect to this machine by a
/// name of its own, and would read the answer; it cannot do so by an address. Requests without a host are no browser's.
fn is_of_this_machine<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter().map(|host| host.to_str().ok());
    let host = match (request.uri().authority(), hosts.next(), hosts.next()) {
        (Some(authority), ..) => authority.clone(),
        (None, None, _) => return true,
        (None, Some(Some(host)), None) => match host.parse::<Authority>() {
            Ok(authority) => authority,
            Err(_) => return false,
        },
        (None, Some(_), _) => return false,
    };
    let name = host.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

fn show(view: View, observed: &Observed) -> Response<Full<Bytes>> {
    match view {
        View::Metrics => respond(StatusCode::OK, metrics::CONTENT_TYPE, metrics::text(&observed.status)),
        View::Status => match serde_json::to_string_pretty(&*observed.status) {
            Ok(text) => respond(StatusCode::OK, "application/json", text + "\n"),
            // Reports are made of strings and numbers, so this is our own fault.
            Err(_) => respond(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "The report cannot be written.\n".into()),
        },
        View::Page => {
            let mut response = respond(StatusCode::OK, "text/html; charset=utf-8", page::render(observed));
            if let Ok(policy) = HeaderValue::from_str(&page::policy()) {
                response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
            }
            response
        }
    }
}

fn respond(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
