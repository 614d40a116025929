# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_nts_pool_lb_global_optspecs
    string join \n c/config= h/help V/version
end

function __fish_nts_pool_lb_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_nts_pool_lb_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_nts_pool_lb_using_subcommand
    set -l cmd (__fish_nts_pool_lb_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c nts-pool-lb -n "__fish_nts_pool_lb_needs_command" -s c -l config -d 'Read this configuration file' -r -F
complete -c nts-pool-lb -n "__fish_nts_pool_lb_needs_command" -s h -l help -d 'Print help'
complete -c nts-pool-lb -n "__fish_nts_pool_lb_needs_command" -s V -l version -d 'Print version'
complete -c nts-pool-lb -n "__fish_nts_pool_lb_needs_command" -f -a "check" -d 'Read all files, say what is wrong with them, and end'
complete -c nts-pool-lb -n "__fish_nts_pool_lb_needs_command" -f -a "list" -d 'Show the members and how they are'
complete -c nts-pool-lb -n "__fish_nts_pool_lb_needs_command" -f -a "why" -d 'Show whom a client gets, and why'
complete -c nts-pool-lb -n "__fish_nts_pool_lb_needs_command" -f -a "drain" -d 'Give a member no new users'
complete -c nts-pool-lb -n "__fish_nts_pool_lb_needs_command" -f -a "undrain" -d 'Take a drained member in again'
complete -c nts-pool-lb -n "__fish_nts_pool_lb_needs_command" -f -a "reload" -d 'Read members, certificates and keys again, and transfer the zone'
complete -c nts-pool-lb -n "__fish_nts_pool_lb_needs_command" -f -a "monitor" -d 'Probe members and publish the verdict, without serving users'
complete -c nts-pool-lb -n "__fish_nts_pool_lb_using_subcommand check" -s c -l config -d 'Read this configuration file' -r -F
complete -c nts-pool-lb -n "__fish_nts_pool_lb_using_subcommand check" -l zone -d 'Ask each name server of the zone for its list too, and keep nothing'
complete -c nts-pool-lb -n "__fish_nts_pool_lb_using_subcommand check" -s h -l help -d 'Print help'
complete -c nts-pool-lb -n "__fish_nts_pool_lb_using_subcommand list" -s c -l config -d 'Read this configuration file' -r -F
complete -c nts-pool-lb -n "__fish_nts_pool_lb_using_subcommand list" -s h -l help -d 'Print help'
complete -c nts-pool-lb -n "__fish_nts_pool_lb_using_subcommand why" -s c -l config -d 'Read this configuration file' -r -F
complete -c nts-pool-lb -n "__fish_nts_pool_lb_using_subcommand why" -s h -l help -d 'Print help'
complete -c nts-pool-lb -n "__fish_nts_pool_lb_using_subcommand drain" -s c -l config -d 'Read this configuration file' -r -F
complete -c nts-pool-lb -n "__fish_nts_pool_lb_using_subcommand drain" -s h -l help -d 'Print help'
complete -c nts-pool-lb -n "__fish_nts_pool_lb_using_subcommand undrain" -s c -l config -d 'Read this configuration file' -r -F
complete -c nts-pool-lb -n "__fish_nts_pool_lb_using_subcommand undrain" -s h -l help -d 'Print help'
complete -c nts-pool-lb -n "__fish_nts_pool_lb_using_subcommand reload" -s c -l config -d 'Read this configuration file' -r -F
complete -c nts-pool-lb -n "__fish_nts_pool_lb_using_subcommand reload" -l older -d 'Take the zone\'s list even if it is older than what is known'
complete -c nts-pool-lb -n "__fish_nts_pool_lb_using_subcommand reload" -s h -l help -d 'Print help'
complete -c nts-pool-lb -n "__fish_nts_pool_lb_using_subcommand monitor" -s c -l config -d 'Read this configuration file' -r -F
complete -c nts-pool-lb -n "__fish_nts_pool_lb_using_subcommand monitor" -s h -l help -d 'Print help'
