//! A token that is made from another one.

use crate::support::{Issuer, Post, Reply, Sidecar, Upstream, secs, wire, within};

fn start(base: &Issuer, derived: &Issuer, upstream: &Upstream) -> Sidecar {
    let url = derived.url();
    let child = format!(
        "acquire: {{url: \"{url}\", headers: {{Authorization: \"Bearer ${{base}}\"}}}}, \
         value: /access_token, expiry: [{{seconds: /expires_in}}], \
         parent_fault: [{{status: [401], renew: base}}], \
         revoke: {{request: {{url: \"{url}/revoke\", \
         headers: {{Authorization: \"Bearer ${{base}}\"}}}}}}"
    );
    Sidecar::start(&format!(
        "tokens: {{base: {{oauth2: {{token_url: \"{}\", client_id: me, \
         client_secret: {{file: DIR/secret}}, revoke: {{url: revoke}}}}}}, \
         api: {{http: {{{child}}}}}}}\n\
         routes: [{{upstream: \"{}\", inject: {{Authorization: \"Bearer ${{api}}\"}}}}]\n",
        base.url(),
        upstream.url()
    ))
}

fn is_revocation(post: &Post) -> bool {
    post.head.lines().next().is_some_and(|line| line.contains("/revoke"))
}

/// The second value of the parent is refused as the first one was, within the half minute in which
/// it is not renewed again: nothing is asked meanwhile that would be refused for certain.
#[test]
fn a_child_whose_parent_was_just_renewed_waits_until_that_can_be_done_again() {
    let (base, upstream) = (Issuer::giving(600.0), Upstream::ok());
    let derived = Issuer::run(|post| match wire::field(&post.head, "authorization") {
        Some("Bearer token-2") => Reply::token("derived", 600.0),
        _ => Reply::status(401),
    });
    let sidecar = start(&base, &derived, &upstream);
    derived.await_posts(2);
    let second = derived.posts()[1].at;
    within(secs(33.0), "the child's token", || sidecar.is_ready());
    assert_eq!(base.count(), 3, "the third one is taken");
    let posts = derived.posts();
    assert!(posts.len() <= 4, "{:?}", derived.gaps());
    let pause = posts[2].at.since(second).as_secs_f64();
    assert!(pause > 28.0, "{pause} s: sooner it would have been refused again");
}

#[test]
fn what_was_made_from_a_token_is_withdrawn_before_it() {
    let (base, upstream) = (Issuer::giving(600.0), Upstream::ok());
    let derived = Issuer::run(|post| {
        let reply = Reply::token("derived", 600.0);
        if is_revocation(post) { reply.after(secs(0.5)) } else { reply }
    });
    let mut sidecar = start(&base, &derived, &upstream);
    sidecar.await_ready();
    sidecar.signal("TERM");
    assert!(sidecar.ended(secs(6.0)).success());
    let at = |issuer: &Issuer| {
        let posts = issuer.posts();
        let found: Vec<&Post> = posts.iter().filter(|post| is_revocation(post)).collect();
        assert_eq!(found.len(), 1, "{posts:?}");
        found[0].at
    };
    let apart = at(&base).since(at(&derived)).as_secs_f64();
    assert!(apart >= 0.5, "the parent {apart} s after the child, whose answer took half a second");
}
