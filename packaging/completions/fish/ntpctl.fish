# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_ntpctl_global_optspecs
    string join \n json n/numeric socket= h/help V/version
end

function __fish_ntpctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_ntpctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_ntpctl_using_subcommand
    set -l cmd (__fish_ntpctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c ntpctl -n "__fish_ntpctl_needs_command" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_needs_command" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -s V -l version -d 'Print version'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "tracking" -d 'Show the state of the clock'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "sources" -d 'Show the sources, and why each is used or not'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "sourcestats" -d 'Show what the measurements of each source say together'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "selectdata" -d 'Show what selection went by'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "authdata" -d 'Show how each source is authenticated'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "ntpdata" -d 'Show the last reply of each source'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "serverstats" -d 'Show what was served'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "activity" -d 'Count the sources that are asked'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "clients" -d 'Show who was served, where `client-log` has note taken of that'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "pools" -d 'Show the pools and their members'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "watch" -d 'Show the clock and the sources again and again, until q or Ctrl-C'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "lookup" -d 'Find out what a name offers; needs no daemon'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "waitsync" -d 'Wait until the clock is synchronized, by verified time where sources are authenticated'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "makestep" -d 'Step the clock now instead of slewing it, or say when it is stepped from now on'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "maxupdateskew" -d 'Use no new frequency whose error bound is larger than this many ppm'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "local" -d 'Serve the local clock where sources do not tell the time: `local stratum 10 orphan`, `local off`'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "reload" -d 'Read the configuration again and apply it, all or nothing'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "burst" -d 'Ask several times in a row'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "online" -d 'Ask again after `offline`'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "offline" -d 'Ask no more'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "onoffline" -d 'Ask those to which there is a route, and no others'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "refresh" -d 'Look names up again'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "rekey" -d 'Make a new key for the cookies of the NTS server'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "cyclelogs" -d 'Open files of measurements anew, after they were moved away'
complete -c ntpctl -n "__fish_ntpctl_needs_command" -f -a "bootstrap" -d 'Change what is believed of the time before it is verified'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand tracking" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand tracking" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand tracking" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand tracking" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand sources" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand sources" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand sources" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand sources" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand sourcestats" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand sourcestats" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand sourcestats" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand sourcestats" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand selectdata" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand selectdata" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand selectdata" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand selectdata" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand authdata" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand authdata" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand authdata" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand authdata" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand ntpdata" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand ntpdata" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand ntpdata" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand ntpdata" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand serverstats" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand serverstats" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand serverstats" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand serverstats" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand activity" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand activity" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand activity" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand activity" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand clients" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand clients" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand clients" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand clients" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand pools; and not __fish_seen_subcommand_from forget" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand pools; and not __fish_seen_subcommand_from forget" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand pools; and not __fish_seen_subcommand_from forget" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand pools; and not __fish_seen_subcommand_from forget" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand pools; and not __fish_seen_subcommand_from forget" -f -a "forget" -d 'Forget that this name ever offered NTS, so that plain NTP may be used with it'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand pools; and __fish_seen_subcommand_from forget" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand pools; and __fish_seen_subcommand_from forget" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand pools; and __fish_seen_subcommand_from forget" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand pools; and __fish_seen_subcommand_from forget" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand watch" -s i -l interval -d 'Time between two looks, in seconds, at least 0.1' -r
complete -c ntpctl -n "__fish_ntpctl_using_subcommand watch" -s c -l count -d 'Stop after this many looks' -r
complete -c ntpctl -n "__fish_ntpctl_using_subcommand watch" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand watch" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand watch" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand watch" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand lookup" -s c -l config -d 'Take `[trust]` of this file instead of that in /etc/ntpd' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand lookup" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand lookup" -l chrony -d 'Print a configuration for chrony'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand lookup" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand lookup" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand lookup" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand waitsync" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand waitsync" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand waitsync" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand waitsync" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand makestep" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand makestep" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand makestep" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand makestep" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand maxupdateskew" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand maxupdateskew" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand maxupdateskew" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand maxupdateskew" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand local" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand local" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand local" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand local" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand reload; and not __fish_seen_subcommand_from sources" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand reload; and not __fish_seen_subcommand_from sources" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand reload; and not __fish_seen_subcommand_from sources" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand reload; and not __fish_seen_subcommand_from sources" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand reload; and not __fish_seen_subcommand_from sources" -f -a "sources" -d 'Read the directories of sources again, and nothing else'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand reload; and __fish_seen_subcommand_from sources" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand reload; and __fish_seen_subcommand_from sources" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand reload; and __fish_seen_subcommand_from sources" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand reload; and __fish_seen_subcommand_from sources" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand burst" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand burst" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand burst" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand burst" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand online" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand online" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand online" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand online" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand offline" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand offline" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand offline" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand offline" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand onoffline" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand onoffline" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand onoffline" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand onoffline" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand refresh" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand refresh" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand refresh" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand refresh" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand rekey" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand rekey" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand rekey" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand rekey" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand cyclelogs" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand cyclelogs" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand cyclelogs" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand cyclelogs" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand bootstrap; and not __fish_seen_subcommand_from reset-floor" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand bootstrap; and not __fish_seen_subcommand_from reset-floor" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand bootstrap; and not __fish_seen_subcommand_from reset-floor" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand bootstrap; and not __fish_seen_subcommand_from reset-floor" -s h -l help -d 'Print help'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand bootstrap; and not __fish_seen_subcommand_from reset-floor" -f -a "reset-floor" -d 'Forget the last verified time, and find out the time anew; for a machine that once verified a time too late'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand bootstrap; and __fish_seen_subcommand_from reset-floor" -l socket -d 'Talk to the daemon that listens here' -r -F
complete -c ntpctl -n "__fish_ntpctl_using_subcommand bootstrap; and __fish_seen_subcommand_from reset-floor" -l json -d 'Print the report as JSON'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand bootstrap; and __fish_seen_subcommand_from reset-floor" -s n -l numeric -d 'Show sources by address rather than by name'
complete -c ntpctl -n "__fish_ntpctl_using_subcommand bootstrap; and __fish_seen_subcommand_from reset-floor" -s h -l help -d 'Print help'
