# SPDX-License-Identifier: MIT
# fish completion for netd-client(1), which fish loads from its folders of completions

set -l commands send sessions show cat follow verify status doctor metrics
set -l reading sessions show cat follow verify

function __netd_client_journal --description 'Options that name the journal to read'
    set -l journal
    set -l take 0
    for word in (commandline -opc)
        if test $take -eq 1
            set -a journal $word
            set take 0
        else if contains -- $word -D --directory --namespace
            set journal $word
            set take 1
        else if string match -qr -- '^--(directory|namespace)=' $word
            set journal $word
        end
    end
    string join -- \n $journal
end

function __netd_client_sessions --description 'Ids of open and recent sessions'
    set -l journal (__netd_client_journal)
    begin
        netd-client sessions --quiet --open $journal
        netd-client sessions --quiet --lines 50 $journal
    end 2>/dev/null | sort -u
end

function __netd_client_listeners --description 'Names of listeners'
    journalctl --quiet --field NETD_LISTENER (__netd_client_journal) 2>/dev/null
end

function __netd_client_hosts --description 'Hosts, or the paths of unix sockets'
    if string match -q '/*' -- (commandline -ct)
        __fish_complete_path (commandline -ct)
    else
        __fish_print_hostnames
    end
end

function __netd_client_times --description 'Examples of times'
    printf '%s\n' today yesterday now -1h -1d
end

complete -c netd-client -f
complete -c netd-client -s H -l host -x -a '(__netd_client_hosts)' -d 'Address of netd'
complete -c netd-client -s p -l port -x -d 'Port of netd'
complete -c netd-client -s T -l timeout -x -d 'Give up without progress'
complete -c netd-client -s q -l quiet -d 'Print less'
complete -c netd-client -s v -l verbose -d 'Print more'
complete -c netd-client -s h -l help -d 'Show help'
complete -c netd-client -s V -l version -d 'Show the version'

complete -c netd-client -n "not __fish_seen_subcommand_from $commands" -a send -d 'Send messages, or standard input'
complete -c netd-client -n "not __fish_seen_subcommand_from $commands" -a sessions -d 'List sessions, newest last'
complete -c netd-client -n "not __fish_seen_subcommand_from $commands" -a show -d 'Show one session\'s events'
complete -c netd-client -n "not __fish_seen_subcommand_from $commands" -a cat -d 'Write what the client sent, byte for byte'
complete -c netd-client -n "not __fish_seen_subcommand_from $commands" -a follow -d 'Show events as they are logged'
complete -c netd-client -n "not __fish_seen_subcommand_from $commands" -a verify -d 'Check that nothing is missing'
complete -c netd-client -n "not __fish_seen_subcommand_from $commands" -a status -d 'Show what netd does now'
complete -c netd-client -n "not __fish_seen_subcommand_from $commands" -a doctor -d 'Check what decides whether entries arrive and stay'
complete -c netd-client -n "not __fish_seen_subcommand_from $commands" -a metrics -d 'Print netd\'s metrics for Prometheus'

complete -c netd-client -n "__fish_seen_subcommand_from $reading" -s D -l directory -x -a '(__fish_complete_directories)' -d 'Journal files to read'
complete -c netd-client -n "__fish_seen_subcommand_from $reading doctor" -l namespace -x -d 'Journal namespace to read'
complete -c netd-client -n '__fish_seen_subcommand_from sessions show follow verify status doctor' -l json -d 'One JSON object per line'
complete -c netd-client -n '__fish_seen_subcommand_from sessions show follow status' -l utc -d 'Times in UTC'
complete -c netd-client -n '__fish_seen_subcommand_from sessions show verify status' -l no-pager -d 'Do not use a pager'
complete -c netd-client -n '__fish_seen_subcommand_from send' -l framing -x -a 'line nul octet' -d 'How each message is sent'
complete -c netd-client -n '__fish_seen_subcommand_from send' -l relp -d 'Send records over RELP'
complete -c netd-client -n '__fish_seen_subcommand_from send' -l reconnect -d 'With --relp: connect again'
complete -c netd-client -n '__fish_seen_subcommand_from send doctor' -l tls -d 'Send over TLS'
complete -c netd-client -n '__fish_seen_subcommand_from send doctor' -l cert -r -F -d 'Own certificate'
complete -c netd-client -n '__fish_seen_subcommand_from send doctor' -l key -r -F -d 'Its private key'
complete -c netd-client -n '__fish_seen_subcommand_from sessions' -l open -d 'Only open sessions'
complete -c netd-client -n '__fish_seen_subcommand_from sessions' -l reason -x -a 'eof reset timeout idle shutdown protocol error' -d 'Only those that ended for this reason'
complete -c netd-client -n '__fish_seen_subcommand_from sessions' -s r -l reverse -d 'Newest first'
complete -c netd-client -n '__fish_seen_subcommand_from sessions follow' -l peer -x -d 'Only those of this client address'
complete -c netd-client -n '__fish_seen_subcommand_from sessions follow verify' -l listener -x -a '(__netd_client_listeners)' -d 'Only those of this listener'
complete -c netd-client -n '__fish_seen_subcommand_from sessions show follow' -l identifier -x -a '(journalctl --quiet --field SYSLOG_IDENTIFIER 2>/dev/null)' -d 'Only records of this program'
complete -c netd-client -n '__fish_seen_subcommand_from sessions show follow' -l hostname -x -a '(journalctl --quiet --field NETD_HOSTNAME 2>/dev/null)' -d 'Only records from this host'
complete -c netd-client -n '__fish_seen_subcommand_from sessions show follow' -l priority -x -a 'emerg alert crit err warning notice info debug' -d 'Only records with at least this severity'
complete -c netd-client -n '__fish_seen_subcommand_from sessions' -s S -l since -x -a '(__netd_client_times)' -d 'Only those that began at or after a time'
complete -c netd-client -n '__fish_seen_subcommand_from sessions' -s U -l until -x -a '(__netd_client_times)' -d 'Only those that began at or before a time'
complete -c netd-client -n '__fish_seen_subcommand_from sessions follow' -s n -l lines -x -d 'Only the last ones'
complete -c netd-client -n '__fish_seen_subcommand_from show cat follow verify' -a '(__netd_client_sessions)' -d session
complete -c netd-client -n '__fish_seen_subcommand_from metrics' -l http -d 'Answer an HTTP request on standard input'
complete -c netd-client -n '__fish_seen_subcommand_from status metrics' -F
