//! Balancers whose members are those of a zone, which our own name server hands over.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path};

use pool_lb::balance::{
    Balancer,
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
         name-servers = [{{ name = \"ns.test\" }}]\ntransfer-key = \"lists.tsig\"\n"
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

#[test]
fn balancers_share_the_members_of_a_zone() {
    let scene = Scene::at(of_day, &[(Manner::Good, &[15][..], None); 3], "");
    let [m1, m2, m3] = &scene.members[..] else { panic!() };
    list(&scene, &[m1, m2]);
    let (runtime, server) = name_server(&scene);
    let settings = |name: &str| {
        format!(
            "[zone]\nname = \"{POOL}\"\nservers = [\"{server}\"]\ntsig-key = \"lists.tsig\"\nlist = \"{name}.list\"\n"
        )
    };
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
        assert!(
            shown.contains("members are those of the zone pool.test: serial ") && shown.contains(", confirmed "),
            "{shown}"
        );
        let metrics = balancer.command("metrics").unwrap();
        for line in
            ["nts_pool_lb_zone_serial 1", "nts_pool_lb_zone_confirmed_seconds 1", "nts_pool_lb_zone_failures_total 0\n"]
        {
            assert!(metrics.contains(line), "{line}: {metrics}");
        }
    }
    // Without the name server the last list stays, over restarts too.
    runtime.shutdown_background();
    let [one, two] = balancers;
    wait_until("an attempt in vain", || {
        one.command("reload").unwrap();
        one.command("list").unwrap().contains("; last attempt: zone pool.test: name server 127.0.0.1:")
    });
    assert!(!one.command("metrics").unwrap().contains("zone_failures_total 0\n"));
    assert_eq!(names(&one), ["m2", "m3"]);
    all_get_users([m2, m3], &one);
    two.stop();
    let two = scene.another("two", of_day, &settings("two"));
    all_get_users([m2, m3], &two);
    one.stop();
    two.stop();
    // Whoever never had one does not begin with everybody that the file knows.
    let config = config::load(&scene.path("two.toml")).unwrap();
    let zone = ZoneMembers { list: scene.path("none.list"), ..config.zone.clone().unwrap() };
    let told = Balancer::start(Config { zone: Some(zone), ..config }).unwrap_err().to_string();
    assert!(told.contains("none.list: zone pool.test: name server 127.0.0.1:"), "{told}");
}
