//! The ways to a store: a Unix socket, a user with a password, TLS.

use std::process::{Command, Stdio};

use crate::fleet::{Fleet, shared};
use crate::server::Redis;
use crate::support::{Issuer, eventually};

/// Two replicas by this URL, with these further settings of the store.
fn share_by(url: &str, more: &str, redis: &Redis) {
    let issuer = Issuer::giving(600.0);
    let config = shared(&issuer, redis, "");
    let config = config.replace(&format!("\"{}\"", redis.url()), &format!("\"{url}\"{more}"));
    let fleet = Fleet::start(2, &config);
    fleet.await_all("token-0");
    assert_eq!(issuer.count(), 1, "{url}");
    eventually("the store", || fleet.metric("bearerd_token_store_up") == 2.0);
    assert_eq!(fleet.events("alone"), 0.0, "{url}");
}

#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn by_a_unix_socket_and_another_database() {
    let redis = Redis::start();
    share_by(&format!("unix://{}?db=3", redis.socket().display()), "", &redis);
    assert!(redis.ask(&["INFO", "keyspace"]).contains("db3:"));
}

/// With no more rights than the documentation names.
#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn as_a_user_with_few_rights() {
    let redis = Redis::start();
    let password = redis.dir.write("redis-password", "hunter2");
    let rights = "ACL SETUSER bearerd on >hunter2 ~bearerd:* &bearerd:* +@all -@admin -@dangerous";
    redis.ask(&rights.split(' ').collect::<Vec<_>>());
    redis.ask(&["ACL", "SETUSER", "default", "nopass", "-@all", "+ping", "+acl", "+keys"]);
    let login = format!(", username: bearerd, password: {{file: {}}}", password.display());
    share_by(&redis.url(), &login, &redis);
}

#[test]
#[ignore = "needs Redis: tests/redis/run"]
fn by_tls_with_an_authority_of_ones_own() {
    let redis = Redis::start();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let certificate = redis.dir.write("cert.pem", certificate.pem());
    let key = redis.dir.write("key.pem", key.serialize_pem());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--bind", "127.0.0.1", "--tls-auth-clients", "no"]);
    command.args(["--tls-port", &port.to_string(), "--tls-cert-file"]).arg(&certificate);
    command.arg("--tls-key-file").arg(&key).stdin(Stdio::null()).stdout(Stdio::null());
    let mut server = command.spawn().unwrap();
    eventually("TLS", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let tls = format!(", tls: {{ca_file: {}}}", certificate.display());
    share_by(&format!("rediss://localhost:{port}"), &tls, &redis);
    server.kill().unwrap();
    server.wait().unwrap();
}
