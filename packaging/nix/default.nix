# nix-build packaging/nix
{ pkgs ? import <nixpkgs> { } }:

pkgs.rustPlatform.buildRustPackage {
  pname = "ntpd-nts";
  version = "0.1.0";
  src = pkgs.lib.cleanSourceWith {
    src = pkgs.lib.cleanSource ../..;
    # What was built before is gigabytes.
    filter = path: _: path != toString ../../target;
  };
  cargoLock.lockFile = ../../Cargo.lock;
  nativeBuildInputs = [ pkgs.cmake ];

  buildPhase = ''
    runHook preBuild
    cargo build --offline --locked --release -p ntpd
    cargo build --offline --locked --release -p pool-srv -p pool-lb --features pool-srv/operator,pool-lb/operator
    runHook postBuild
  '';
  # Tests that need no network and no root.
  checkPhase = "cargo test --offline --locked --release -p ntp-proto -p nts-ke";

  installPhase = ''
    runHook preInstall
    patchShebangs packaging/install
    packaging/install --destdir . --programs target/release ntpd nts-pool
    mkdir -p $out/bin
    mv usr/sbin/* usr/bin/* $out/bin/
    mv usr/lib usr/share $out/
    substituteInPlace $out/lib/systemd/system/*.service \
      --replace-warn /usr/sbin/ $out/bin/ --replace-warn /usr/bin/ $out/bin/ --replace-warn =/bin/kill =${pkgs.coreutils}/bin/kill
    # Hooks of DHCP clients call each other, and are called without a path to anything.
    substituteInPlace $out/lib/NetworkManager/dispatcher.d/20-ntpd $out/lib/networkd-dispatcher/*/ntpd \
      --replace-fail /usr/lib/ntpd/ $out/lib/ntpd/ --replace-fail /usr/bin/ntpctl $out/bin/ntpctl
    substituteInPlace $out/lib/ntpd/ntpd-dhcp --replace-fail PATH=/usr/sbin:/usr/bin:/sbin:/bin \
      PATH=$out/bin:${pkgs.lib.makeBinPath [ pkgs.coreutils pkgs.diffutils ]}
    mv $out/share/zsh/vendor-completions $out/share/zsh/site-functions
    runHook postInstall
  '';

  meta = {
    description = "Time daemon for NTP with authenticated time (NTS)";
    license = with pkgs.lib.licenses; [ asl20 mit ];
    platforms = pkgs.lib.platforms.linux;
    mainProgram = "ntpd";
  };
}
