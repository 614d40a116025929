//! Balancers whose members are those of a zone, which our own name server hands over.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path};

use pool_lb::balance::{
    self, Balancer,
    config::{self, Config, ZoneMembers},
};
use pool_srv::publish::{Server, ZoneKey};
use tokio::runtime::{Builder, Runtime};

use super::scene::{Manner, Member, POOL, Scene, time::of_day, wait_until};

const KEY: &str = "key lists.test { algorithm hmac-sha256; secret \"AAECAwQFBgcICQoLDA0ODw==\"; };\n";

fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Makes these the members of the zone as soon as the name server looks.
fn list(scene: &Scene, members: &[&Member]) {
    let entry = |member: &&Member| format!("[[member]]\nname = \"{}\"\nport = {}\n", member.name, member.port);
    fs::write(scene.path("new"), members.iter().map(entry).collect::<String>()).unwrap();
    fs::rename(scene.path("new"), scene.path("zone-members.toml")).unwrap();
}

/// A name server of the pool's zone, for as long as the runtime is there.
fn name_server(scene: &Scene) -> (Runtime, SocketAddr) {
    secret(&scene.path("zone.key"), &ZoneKey::generate().unwrap());
    secret(&scene.path("lists.tsig"), KEY);
    let file = scene.path("srv.toml");
    let text = format!(
        "listen = [\"127.0.0.1:0\"]\n[[zone]]\nname = \"{POOL}\"\nkey = \"zone.key\"\nmembers = \"zone-members.toml\"\n\
         name-servers = [{{ name = \"ns.test\" }}]\ntransfer-keys = [\"lists.tsig\"]\n"
    );
    fs::write(&file, text).unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = runtime.block_on(Server::start(&file)).unwrap();
    let address = server.addresses()[0];
    runtime.spawn(server.follow());
    (runtime, address)
}

fn names(balancer: &Balancer) -> Vec<String> {
    let list = balancer.command("list").unwrap();
    list.lines().filter_map(|line| line.split('.').next()).filter(|name| name.len() == 2).map(str::to_owned).collect()
}

/// The settings of a balancer that has its members from there.
fn zone_of(name: &str, server: SocketAddr) -> String {
    format!("[zone]\nname = \"{POOL}\"\nservers = [\"{server}\"]\ntsig-key = \"lists.tsig\"\nlist = \"{name}.list\"\n")
}

/// A series and its value.
fn series(balancer: &Balancer, name: &str) -> String {
    let metrics = balancer.command("metrics").unwrap();
    let found = metrics.lines().find(|line| line.starts_with(&format!("nts_pool_lb_{name}")));
    found.unwrap_or_else(|| panic!("{name}: {metrics}")).to_owned()
}

fn is_told(balancer: &Balancer, lines: &[&str]) {
    let metrics = balancer.command("metrics").unwrap();
    for line in lines {
        assert!(metrics.contains(&format!("nts_pool_lb_{line}")), "{line}: {metrics}");
    }
}

#[test]
fn balancers_share_the_members_of_a_zone() {
    let scene = Scene::at(of_day, &[(Manner::Good, &[15][..], None); 3], "");
    let [m1, m2, m3] = &scene.members[..] else { panic!() };
    list(&scene, &[m1, m2]);
    let (runtime, server) = name_server(&scene);
    let settings = |name: &str| zone_of(name, server);
    let balancers = ["one", "two"].map(|name| scene.another(name, of_day, &settings(name)));
    let tls = scene.user_tls(None);
    // Who gets a user of this balancer.
    let member = |balancer: &Balancer| {
        let told = scene.told(&tls, balancer.addresses()[0]).unwrap();
        let [member] = scene.holders(&told.keys)[..] else { panic!("the keys of a user reach one member") };
        member.name.clone()
    };
    let all_get_users = |wanted: [&Member; 2], balancer: &Balancer| {
        let mut seen = Vec::new();
        wait_until("users of both members", || {
            let name = member(balancer);
            assert!(wanted.iter().any(|member| member.name == name), "{name} does not belong to the pool");
            seen.push(name);
            wanted.iter().all(|member| seen.contains(&member.name))
        });
    };
    for balancer in &balancers {
        assert_eq!(names(balancer), ["m1", "m2"], "the file knows three");
        all_get_users([m1, m2], balancer);
    }
    // One comes and one goes, at one place.
    list(&scene, &[m2, m3]);
    for balancer in &balancers {
        wait_until("the new list", || balancer.command("reload").is_ok() && names(balancer) == ["m2", "m3"]);
        all_get_users([m2, m3], balancer);
        let shown = balancer.command("list").unwrap();
        assert!(shown.contains("members are those of the zone pool.test: generation "), "{shown}");
        wait_until("word of the list in force", || balancer.command("list").unwrap().contains(", confirmed "));
        is_told(balancer, &["zone_members 2\n", "zone_failures_total 0\n", "members_without_token 0\n"]);
    }
    let [fingerprint, other] = [0, 1].map(|place| series(&balancers[place], "zone_list_info"));
    assert_eq!(fingerprint, other);
    // Without the name server the last list stays, over restarts too.
    runtime.shutdown_background();
    let [one, two] = balancers;
    let wanted = "zone pool.test: name server 127.0.0.1:";
    wait_until("an attempt in vain", || one.command("reload").is_err_and(|told| told.contains(wanted)));
    assert!(one.command("list").unwrap().contains(&format!("; last attempt: {wanted}")));
    assert!(!one.command("metrics").unwrap().contains("zone_failures_total 0\n"));
    assert_eq!(names(&one), ["m2", "m3"]);
    all_get_users([m2, m3], &one);
    two.stop();
    let two = scene.another("two", of_day, &settings("two"));
    // What was known of the list is known from the start.
    is_told(&two, &["zone_members 2\n", "zone_confirmed_seconds 1"]);
    assert_eq!(series(&two, "zone_list_info"), fingerprint);
    all_get_users([m2, m3], &two);
    one.stop();
    two.stop();
    // Whoever never had one does not begin with everybody that the file knows.
    let config = config::load(&scene.path("two.toml")).unwrap();
    let zone = ZoneMembers { list: scene.path("none.list"), ..config.zone.clone().unwrap() };
    let told = Balancer::start(Config { zone: Some(zone), ..config }).unwrap_err().to_string();
    assert!(told.contains("none.list: zone pool.test: name server 127.0.0.1:"), "{told}");
}

#[test]
fn what_is_told_of_a_list_is_told_of_that_in_force() {
    let scene = Scene::at(of_day, &[(Manner::Good, &[15][..], None); 3], "");
    let [m1, m2, m3] = &scene.members[..] else { panic!() };
    list(&scene, &[m1, m2]);
    let (runtime, server) = name_server(&scene);
    let kept = || fs::read_to_string(scene.path("one.list")).unwrap();
    // A list that cannot be used is had again, be it found at the start or later.
    fs::write(scene.path("one.list"), "[[member]]\nname = \"m3.test\"\n").unwrap();
    let one = scene.another("one", of_day, &zone_of("one", server));
    assert_eq!(names(&one), ["m1", "m2"]);
    let text = kept();
    // From here on the zone is looked at when that is asked for, or after its time to live.
    one.command("reload").unwrap();
    fs::write(scene.path("one.list"), &text[..text.len() / 2]).unwrap();
    wait_until("word of the half", || {
        one.command("list").unwrap().contains("it does not end as one; the members stay")
    });
    is_told(&one, &["members_problem 1\n", "zone_members 2\n"]);
    let told = one.command("reload").unwrap_err();
    assert!(told.contains("it does not end as one"), "{told}");
    wait_until("the whole again", || kept() == text);
    wait_until("its use", || one.command("metrics").unwrap().contains("members_problem 0\n"));
    // As long as the file has a mistake a new list is not in force, and nothing says so.
    let good = fs::read_to_string(scene.path("members.toml")).unwrap();
    fs::write(scene.path("members.toml"), "[[member]\n").unwrap();
    let before = series(&one, "zone_list_info");
    list(&scene, &[m2, m3]);
    wait_until("word of the new list", || {
        let _ = one.command("reload");
        one.command("list").unwrap().contains("; not in force: generation ")
    });
    assert_eq!((names(&one), series(&one, "zone_list_info")), (vec!["m1".to_owned(), "m2".to_owned()], before.clone()));
    is_told(&one, &["members_problem 1\n", "zone_failures_total 0\n"]);
    assert!(one.command("list").unwrap().contains("members.toml:1:"));
    fs::write(scene.path("members.toml"), good).unwrap();
    wait_until("the new list", || names(&one) == ["m2", "m3"]);
    wait_until("its mark", || series(&one, "zone_list_info") != before);
    let told = one.command("reload older").unwrap();
    assert!(told.contains("zone pool.test: generation ") && told.contains(", 2 members, "), "{told}");
    is_told(&one, &["members_problem 0\n"]);
    // Without a balancer its name servers can be looked at.
    let config = config::load(&scene.path("one.toml")).unwrap();
    let told = runtime.block_on(balance::inspect(&config)).unwrap();
    assert!(told.starts_with(&format!("name server {server}: serial ")) && !told.contains("without token"), "{told}");
    fs::write(scene.path("members.toml"), "[[member]]\nname = \"m1.test\"\n").unwrap();
    let told = runtime.block_on(balance::inspect(&config)).unwrap();
    assert!(told.ends_with("; 2 without token: m2.test, m3.test\n"), "{told}");
    fs::write(scene.path("one.list"), kept().replace("generation=", "generation=1")).unwrap();
    let told = runtime.block_on(balance::inspect(&config)).unwrap();
    assert!(told.contains("; older than the list kept here, of generation 1"), "{told}");
    runtime.shutdown_background();
    one.stop();
    assert!(Runtime::new().unwrap().block_on(balance::inspect(&config)).unwrap_err().contains("cannot be reached"));
}
