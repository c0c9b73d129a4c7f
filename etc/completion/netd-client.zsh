#compdef netd-client
# SPDX-License-Identifier: MIT
# zsh completion for netd-client(1); installed as share/zsh/site-functions/_netd-client

# Sets journal to the options that name the journal to read.
_netd_client_journal() {
    local -i i

    journal=()
    for ((i = 2; i < $#_netd_client_words; i++)); do
        case $_netd_client_words[i] in
        -D | --directory | --namespace)
            journal=($_netd_client_words[i] ${(Q)_netd_client_words[i + 1]})
            ;;
        --directory=* | --namespace=*) journal=(${(Q)_netd_client_words[i]}) ;;
        esac
    done
}

# Open and recent sessions, from the same journal that the command line names.
_netd_client_sessions() {
    local -a ids journal

    _netd_client_journal
    ids=(${(fu)"$(netd-client sessions --quiet --open $journal 2>/dev/null
        netd-client sessions --quiet --lines 50 $journal 2>/dev/null)"})
    _wanted sessions expl session compadd -a ids
}

_netd_client_listeners() {
    local -a names journal

    _netd_client_journal
    names=(${(f)"$(journalctl --quiet --field NETD_LISTENER $journal 2>/dev/null)"})
    _wanted listeners expl listener compadd -a names
}

_netd_client_hosts() {
    if [[ $PREFIX == /* ]]; then
        _files
    else
        _hosts
    fi
}

_netd_client_times() {
    _wanted times expl time compadd today yesterday now -1h -1d
}

_netd_client() {
    local -a general where json utc pager peer listener select
    local curcontext=$curcontext state line
    local -A opt_args
    local -a _netd_client_words=("${words[@]}") # _arguments removes the words before the command

    general=(
        '(-H --host)'{-H,--host=}'[address of netd]:host:_netd_client_hosts'
        '(-p --port)'{-p,--port=}'[port of netd]:port:'
        '(-T --timeout)'{-T,--timeout=}'[give up without progress]:seconds:'
        '(-q --quiet)'{-q,--quiet}'[print less]'
        '(-v --verbose)'{-v,--verbose}'[print more]'
        '(- *)'{-h,--help}'[show help]'
        '(- *)'{-V,--version}'[show the version]'
    )
    where=(
        '(-D --directory --namespace)'{-D,--directory=}'[journal files to read]:directory:_directories'
        '(-D --directory)--namespace=[journal namespace to read]:namespace:'
    )
    json='--json[one JSON object per line]'
    utc='--utc[times in UTC]'
    pager='--no-pager[do not use a pager]'
    peer='--peer=[only those of this client address]:address:'
    listener='--listener=[only those of this listener]:listener:_netd_client_listeners'

    select=(
        '--identifier=[only records of this program]:program:'
        '--hostname=[only records from this host]:host:'
        '--priority=[only records with at least this severity]:severity:(emerg alert crit err warning notice info debug)'
    )

    _arguments -C -A '-*' $general $where $json $utc $pager \
        '1:command:((send\:"send messages, or standard input"
            sessions\:"list sessions, newest last"
            show\:"show one session'\''s events"
            cat\:"write what the client sent, byte for byte"
            follow\:"show events as they are logged"
            verify\:"check that nothing is missing"
            status\:"show what netd does now"
            doctor\:"check what decides whether entries arrive and stay"
            metrics\:"print netd'\''s metrics for Prometheus"))' \
        '*::argument:->arguments'

    [[ $state == arguments ]] || return
    case $line[1] in
    send)
        _arguments $general \
            '(--relp --reconnect)--framing=[how each message is sent]:framing:(line nul octet)' \
            '(--framing)--relp[send records over RELP]' \
            '(--framing)--reconnect[with --relp, connect again]' \
            '--tls=-[send over TLS]::file of certificates to trust:_files' \
            '--cert=[own certificate]:file:_files' '--key=[its private key]:file:_files' \
            '*:message:'
        ;;
    sessions)
        _arguments $general $where $json $utc $pager $peer $listener $select \
            '(--reason)--open[only open sessions]' \
            '(--open)--reason=[only those that ended for this reason]:reason:(eof reset timeout idle shutdown protocol error)' \
            '(-r --reverse)'{-r,--reverse}'[newest first]' \
            '(-S --since)'{-S,--since=}'[only those that began at or after a time]:time:_netd_client_times' \
            '(-U --until)'{-U,--until=}'[only those that began at or before a time]:time:_netd_client_times' \
            '(-n --lines)'{-n,--lines=}'[only the last ones]:number:'
        ;;
    show) _arguments $general $where $json $utc $pager $select '1:session:_netd_client_sessions' ;;
    cat) _arguments $general $where '1:session:_netd_client_sessions' ;;
    follow)
        _arguments $general $where $json $utc $peer $listener $select \
            '(-n --lines)'{-n,--lines=}'[start with the last events]:number:' \
            '1:session:_netd_client_sessions'
        ;;
    verify) _arguments $general $where $json $pager $listener '*:session:_netd_client_sessions' ;;
    status) _arguments $general $json $utc $pager '1:file:_files' ;;
    doctor)
        _arguments $general $json '--namespace=[journal namespace to read]:namespace:' \
            '--tls=-[test session over TLS]::file of certificates to trust:_files' \
            '--cert=[own certificate]:file:_files' '--key=[its private key]:file:_files'
        ;;
    metrics) _arguments $general '--http[answer an HTTP request on standard input]' '1:file:_files' ;;
    esac
}

_netd_client "$@"
