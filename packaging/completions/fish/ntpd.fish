# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_ntpd_global_optspecs
    string join \n c/config= x/no-clock h/help V/version
end

function __fish_ntpd_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_ntpd_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_ntpd_using_subcommand
    set -l cmd (__fish_ntpd_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c ntpd -n "__fish_ntpd_needs_command" -s c -l config -d 'Read this configuration file alone, instead of /etc/ntpd/ntpd.toml and /etc/ntpd/conf.d/*.toml' -r -F
complete -c ntpd -n "__fish_ntpd_needs_command" -s x -l no-clock -d 'Never touch the system clock: keep time in this process only'
complete -c ntpd -n "__fish_ntpd_needs_command" -s h -l help -d 'Print help'
complete -c ntpd -n "__fish_ntpd_needs_command" -s V -l version -d 'Print version'
complete -c ntpd -n "__fish_ntpd_needs_command" -f -a "check" -d 'Check the configuration and change nothing'
complete -c ntpd -n "__fish_ntpd_needs_command" -f -a "explain" -d 'Print the configuration with all defaults'
complete -c ntpd -n "__fish_ntpd_needs_command" -f -a "once" -d 'Set the clock once and exit'
complete -c ntpd -n "__fish_ntpd_needs_command" -f -a "query" -d 'Measure servers and print what they say; needs no configuration and no privilege'
complete -c ntpd -n "__fish_ntpd_needs_command" -f -a "migrate" -d 'Print the configuration that another time daemon\'s comes to; what is lost is said on standard error'
complete -c ntpd -n "__fish_ntpd_using_subcommand check" -s c -l config -d 'Read this configuration file alone, instead of /etc/ntpd/ntpd.toml and /etc/ntpd/conf.d/*.toml' -r -F
complete -c ntpd -n "__fish_ntpd_using_subcommand check" -s x -l no-clock -d 'Never touch the system clock: keep time in this process only'
complete -c ntpd -n "__fish_ntpd_using_subcommand check" -s h -l help -d 'Print help'
complete -c ntpd -n "__fish_ntpd_using_subcommand explain" -s c -l config -d 'Read this configuration file alone, instead of /etc/ntpd/ntpd.toml and /etc/ntpd/conf.d/*.toml' -r -F
complete -c ntpd -n "__fish_ntpd_using_subcommand explain" -s x -l no-clock -d 'Never touch the system clock: keep time in this process only'
complete -c ntpd -n "__fish_ntpd_using_subcommand explain" -s h -l help -d 'Print help'
complete -c ntpd -n "__fish_ntpd_using_subcommand once" -s c -l config -d 'Read this configuration file alone, instead of /etc/ntpd/ntpd.toml and /etc/ntpd/conf.d/*.toml' -r -F
complete -c ntpd -n "__fish_ntpd_using_subcommand once" -s x -l no-clock -d 'Never touch the system clock: keep time in this process only'
complete -c ntpd -n "__fish_ntpd_using_subcommand once" -s h -l help -d 'Print help'
complete -c ntpd -n "__fish_ntpd_using_subcommand query" -s c -l config -d 'Read this configuration file alone, instead of /etc/ntpd/ntpd.toml and /etc/ntpd/conf.d/*.toml' -r -F
complete -c ntpd -n "__fish_ntpd_using_subcommand query" -s x -l no-clock -d 'Never touch the system clock: keep time in this process only'
complete -c ntpd -n "__fish_ntpd_using_subcommand query" -s h -l help -d 'Print help'
complete -c ntpd -n "__fish_ntpd_using_subcommand migrate" -l from -d 'Whose configuration it is, instead of finding out' -r -f -a "chrony\t'chronyd: chrony.conf, or a file of sources'
ntp\t'ntp.org\'s ntpd, or NTPsec\'s: ntp.conf'
timesyncd\t'systemd-timesyncd: timesyncd.conf'
ntpd-rs\t'ntpd-rs: ntp.toml'"
complete -c ntpd -n "__fish_ntpd_using_subcommand migrate" -l keys-out -d 'Write the symmetric keys to this file, which must not exist' -r -F
complete -c ntpd -n "__fish_ntpd_using_subcommand migrate" -l state -d 'Write the frequency of chronyd\'s drift file to this state directory' -r -F
complete -c ntpd -n "__fish_ntpd_using_subcommand migrate" -l root -d 'Look for the paths in the file below this directory' -r -F
complete -c ntpd -n "__fish_ntpd_using_subcommand migrate" -s c -l config -d 'Read this configuration file alone, instead of /etc/ntpd/ntpd.toml and /etc/ntpd/conf.d/*.toml' -r -F
complete -c ntpd -n "__fish_ntpd_using_subcommand migrate" -s x -l no-clock -d 'Never touch the system clock: keep time in this process only'
complete -c ntpd -n "__fish_ntpd_using_subcommand migrate" -s h -l help -d 'Print help (see more with \'--help\')'
