# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_nts_pool_srv_global_optspecs
    string join \n c/config= h/help V/version
end

function __fish_nts_pool_srv_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_nts_pool_srv_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_nts_pool_srv_using_subcommand
    set -l cmd (__fish_nts_pool_srv_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c nts-pool-srv -n "__fish_nts_pool_srv_needs_command" -s c -l config -d 'Read this configuration file' -r -F
complete -c nts-pool-srv -n "__fish_nts_pool_srv_needs_command" -s h -l help -d 'Print help'
complete -c nts-pool-srv -n "__fish_nts_pool_srv_needs_command" -s V -l version -d 'Print version'
complete -c nts-pool-srv -n "__fish_nts_pool_srv_needs_command" -f -a "check" -d 'Check the configuration and all files that it names'
complete -c nts-pool-srv -n "__fish_nts_pool_srv_needs_command" -f -a "key" -d 'Make a key that signs a zone'
complete -c nts-pool-srv -n "__fish_nts_pool_srv_needs_command" -f -a "ds" -d 'Print what the parent of each zone needs: its DS records, and the keys they stand for'
complete -c nts-pool-srv -n "__fish_nts_pool_srv_needs_command" -f -a "export" -d 'Print a zone for another DNS server, which signs it'
complete -c nts-pool-srv -n "__fish_nts_pool_srv_needs_command" -f -a "publish" -d 'Update zones on another DNS server (RFC 2136, signed with a TSIG key)'
complete -c nts-pool-srv -n "__fish_nts_pool_srv_needs_command" -f -a "fetch" -d 'Fetch a member directory or a health report by HTTPS, check it, and put it in the place of a file'
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand check" -s c -l config -d 'Read this configuration file' -r -F
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand check" -s h -l help -d 'Print help'
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand key" -l zone -d 'Print the records of the key for this zone' -r
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand key" -s c -l config -d 'Read this configuration file' -r -F
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand key" -s h -l help -d 'Print help'
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand ds" -s c -l config -d 'Read this configuration file' -r -F
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand ds" -s h -l help -d 'Print help'
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand export" -l zone -d 'The zone; needed if there are several' -r
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand export" -s c -l config -d 'Read this configuration file' -r -F
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand export" -s h -l help -d 'Print help'
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand publish" -l every -d 'Go on, and update it again at this interval, such as 60s' -r
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand publish" -s c -l config -d 'Read this configuration file' -r -F
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand publish" -s h -l help -d 'Print help'
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand fetch" -l what -d 'What it is' -r -f -a "members\t'A member directory'
health\t'A health report'"
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand fetch" -l roots -d 'Trust the certificates of this file (PEM) instead of the system\'s' -r -F
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand fetch" -l header-file -d 'Send the header in this file, one line such as `Authorization: Bearer …`' -r -F
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand fetch" -l every -d 'Go on, and ask again at this interval, such as 60s' -r
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand fetch" -s c -l config -d 'Read this configuration file' -r -F
complete -c nts-pool-srv -n "__fish_nts_pool_srv_using_subcommand fetch" -s h -l help -d 'Print help (see more with \'--help\')'
