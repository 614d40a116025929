use super::*;
use crate::balance::tests::{block_on, shared_with};

#[test]
fn a_file_that_the_system_does_not_read_is_read_later_and_a_mistake_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut parameters = rcgen::CertificateParams::new(vec![]).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let good = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    fs::write(at("trust"), &good).unwrap();
    fs::write(at("members"), "[[member]]\nname = \"m0.test\"\n").unwrap();
    let trust = format!("trust = \"file\"\ntrust-file = \"{}\"\n", at("trust").display());
    let shared = shared_with("[[member]]\nname = \"m0.test\"\n", &trust).0;
    block_on(async {
        let mut keeper = Keeper::new(shared, Watched::open(&at("members")).unwrap(), Judge::new(0.1));
        let is_due = |keeper: &Keeper| looks(&keeper.shared.config) != keeper.looks;
        fs::write(at("trust"), good.repeat(2)).unwrap();
        assert!(is_due(&keeper) && keeper.reload(TransferWish::Whole).is_ok() && !is_due(&keeper));
        fs::write(at("trust"), "no certificate").unwrap();
        assert!(keeper.reload(TransferWish::Whole).is_err() && !is_due(&keeper));
        // proc(5): nothing is mapped at address 0, so that reading fails with EIO.
        fs::remove_file(at("trust")).unwrap();
        std::os::unix::fs::symlink("/proc/self/mem", at("trust")).unwrap();
        let error = keeper.reload(TransferWish::Whole).unwrap_err();
        assert!(is_due(&keeper), "{error}");
    });
}
