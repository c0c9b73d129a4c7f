# SPDX-License-Identifier: MIT
#
# What a program has to know of the session table: reads table.h as the preprocessor leaves it, and
# prints the definitions of struct table_header, struct session, struct tls_counters and what is in
# them, and of all enumerations: names, types, values and order, without comments. Other names of our own (functions,
# structs that are in no table) and the system's do not count.

# "# LINE FILE FLAGS": our own headers are named from here on, the system's from the root.
/^# / { own = $3 !~ /^"[\/<]/; next }
own { text = text " " $0 }

# The definition at the beginning of TEXT, to the brace that closes it.
function definition(text,    i, c, depth) {
    for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        if (c == "{")
            depth++
        else if (c == "}" && --depth == 0)
            break
    }
    return substr(text, 1, i)
}

# Adds the definition of NAME and of all that it names.
function add(name,    text) {
    if (!(name in definitions) || name in added)
        return
    added[name]
    text = definitions[name]
    print text
    while (match(text, /(struct|enum|union) [A-Za-z_0-9]+/)) {
        name = substr(text, RSTART, RLENGTH)
        text = substr(text, RSTART + RLENGTH)
        add(name)
    }
}

END {
    gsub(/[ \t]+/, " ", text)
    while (match(text, /(struct|enum|union) [A-Za-z_0-9]+ [{]/)) {
        name = substr(text, RSTART, RLENGTH - 2)
        text = substr(text, RSTART)
        definitions[name] = definition(text)
        text = substr(text, length(definitions[name]) + 1)
        order[++count] = name
    }
    add("struct table_header")
    add("struct session")
    add("struct tls_counters")
    for (i = 1; i <= count; i++)
        if (order[i] ~ /^enum/)
            add(order[i])
}
