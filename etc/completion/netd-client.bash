# SPDX-License-Identifier: MIT
# bash completion for netd-client(1); installed as share/bash-completion/completions/netd-client
# shellcheck shell=bash

# Ids of open and recent sessions, from the same journal that the command line names.
_netd_client_sessions() {
    {
        netd-client sessions --quiet --open "$@"
        netd-client sessions --quiet --lines 50 "$@"
    } 2>/dev/null | sort -u
}

_netd_client_listeners() {
    journalctl --quiet --field NETD_LISTENER "$@" 2>/dev/null
}

_netd_client() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local commands='send sessions show cat follow verify status doctor metrics'
    local general='--host --port --timeout --quiet --verbose --help --version'
    local where='--directory --namespace' select='--identifier --hostname --priority'
    local command='' options words i word
    local -a journal=()

    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
        -D | --directory | --namespace)
            [[ ${COMP_WORDS[i + 1]-} == = ]] && ((i++))
            ((i + 1 < COMP_CWORD)) && journal=("$word" "${COMP_WORDS[i + 1]}")
            ((i++))
            ;;
        -H | -p | -T | -S | -U | -n | --host | --port | --timeout | --peer | --since | --until | \
            --lines | --listener | --reason | --framing | --cert | --key | --identifier | \
            --hostname | --priority)
            [[ ${COMP_WORDS[i + 1]-} == = ]] && ((i++))
            ((i++))
            ;;
        -*) ;;
        *) [[ $command ]] || command=$word ;;
        esac
    done
    [[ $current == = ]] && current=''
    [[ $previous == = ]] && previous=${COMP_WORDS[COMP_CWORD - 2]}

    COMPREPLY=()
    case $previous in
    -H | --host)
        if [[ $current == /* ]]; then
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return
        fi
        mapfile -t COMPREPLY < <(compgen -A hostname -- "$current")
        return
        ;;
    -D | --directory)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
        return
        ;;
    --cert | --key)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    --framing)
        mapfile -t COMPREPLY < <(compgen -W 'line nul octet' -- "$current")
        return
        ;;
    -S | -U | --since | --until)
        mapfile -t COMPREPLY < <(compgen -W 'today yesterday now -1h -1d' -- "$current")
        return
        ;;
    --listener)
        mapfile -t COMPREPLY < <(compgen -W "$(_netd_client_listeners "${journal[@]}")" -- "$current")
        return
        ;;
    --reason)
        words='eof reset timeout idle shutdown protocol error'
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
        return
        ;;
    --identifier | --hostname)
        words=SYSLOG_IDENTIFIER
        [[ $previous == --hostname ]] && words=NETD_HOSTNAME
        words=$(journalctl --quiet --field "$words" "${journal[@]}" 2>/dev/null)
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
        return
        ;;
    --priority)
        words='emerg alert crit err warning notice info debug'
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
        return
        ;;
    -p | -T | -n | --port | --timeout | --lines | --namespace | --peer)
        return
        ;;
    esac

    case $command in
    send) options="$general --framing --relp --reconnect --tls --cert --key" ;;
    sessions)
        options="$general $where --json --utc --no-pager --open --peer --listener --reason --reverse"
        options+=" --since --until --lines $select"
        ;;
    show) options="$general $where --json --utc --no-pager $select" ;;
    cat) options="$general $where" ;;
    follow) options="$general $where --json --utc --lines --peer --listener $select" ;;
    verify) options="$general $where --json --no-pager --listener" ;;
    status) options="$general --json --utc --no-pager" ;;
    doctor) options="$general --namespace --json --tls --cert --key" ;;
    metrics) options="$general --http" ;;
    *) options="$general $where --json --utc --no-pager" ;;
    esac
    if [[ $current == -* ]]; then
        words=$options
    else
        case $command in
        '') words=$commands ;;
        show | cat | follow | verify) words=$(_netd_client_sessions "${journal[@]}") ;;
        status | metrics)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return
            ;;
        *) return ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -F _netd_client netd-client
