# SPDX-License-Identifier: MIT
"""bench.json to tables and pictures. `report.py FILE...` makes them anew. `report.py --readme FILE`
also puts each table of bench.md into the README, between its <!-- bench: PART --> and the next
<!-- end -->."""

import json
import pathlib
import re
import statistics
import sys

# Picture: sizes in units of the viewBox.
WIDTH, LABEL, LINE, BAR = 900, 300, 34, 9
COLOURS = {"bookworm": "#4477aa", "trixie": "#ee8866"}
NAMES = {"bookworm": "Debian 12", "trixie": "Debian 13"}


def spread(runs, key):
    """Median, least and most of one figure over the rounds."""
    values = [run[key] for run in runs]
    return statistics.median(values), min(values), max(values)


def columns(widths, *cells):
    """The first cell to the left, the others to the right."""
    return "".join(f"{c:<{w}}" if i == 0 else f"{c:>{w}}"
                   for i, (c, w) in enumerate(zip(cells, widths))).rstrip()


def table_of_rows(data, part="rows"):
    widths = (50, 10, 20, 7, 11, 13, 11, 13, 15, 9, 6)
    lines = []
    for release, results in data[part]["results"].items():
        about = data["runs"][part]["machine"]["releases"][release]
        lines += [f"{NAMES[release]}, systemd {about['systemd']}, rsyslog {about['rsyslog']}, "
                  f"Node.js {about['node']}", "",
                  columns(widths, "", "records/s", "least to most", "MB/s", "daemon µs",
                          "journald µs", "memory MB", "shared once", "journal bytes", "netd is",
                          "lost") + "  says"]
        netd = None  # the last row of netd's: the others that follow are compared with it
        for row in data[part]["rows"]:
            runs = results[row["name"]]
            rate, least, most = spread(runs, "records_per_second")
            if row["name"].startswith("netd") and (part != "rows" or row["name"] == "netd"):
                netd = rate
            lines.append(columns(
                widths, row["title"], f"{rate:,.0f}", f"{least:,.0f} to {most:,.0f}",
                f"{spread(runs, 'bytes_per_second')[0] / 1e6:.1f}",
                f"{spread(runs, 'daemon_usec')[0]:.2f}", f"{spread(runs, 'journald_usec')[0]:.2f}",
                f"{spread(runs, 'memory')[0] / 1e6:.1f}",
                f"{spread(runs, 'memory_shared')[0] / 1e6:.1f}",
                f"{spread(runs, 'journal_bytes')[0]:.0f}" if "journal_bytes" in runs[0] else "",
                f"{netd / rate:.2f} x" if netd and not row["stream"] else "",
                sum(run["lost"] for run in runs)) + f"  {row['attributed']}")
        lines.append("")
    return lines


def table_of_sessions(data):
    lines = []
    for release, part in data["sessions"].items():
        lines += [f"{NAMES[release]}: sessions", ""]
        idle = part["idle"]
        lines.append(f"  {idle['sessions']:,} idle sessions of {idle['instances']} instances: "
                     f"{idle['bytes_per_session']:.0f} bytes each "
                     f"({idle['memory_before'] / 1e6:.1f} MB to {idle['memory'] / 1e6:.1f} MB)")
        for name, runs in part["short"].items():
            rate, least, most = spread(runs, "records_per_second")
            lines.append(f"  connect, one record, disconnect, {name}: {rate:,.0f} sessions/s "
                         f"({least:,.0f} to {most:,.0f}), {spread(runs, 'daemon_usec')[0]:.1f} µs, "
                         f"journald {spread(runs, 'journald_usec')[0]:.1f} µs, client and all else "
                         f"{statistics.median(r['others_usec'] / r['entries'] for r in runs):.1f} µs")
        for count, runs in part["active"].items():
            lines.append(f"  {int(count):6,} active sessions: "
                         f"{spread(runs, 'records_per_second')[0]:9,.0f} records/s, "
                         f"{spread(runs, 'daemon_usec')[0]:.2f} µs a record, "
                         f"{spread(runs, 'memory')[0] / 1e6:.1f} MB")
        lines.append("")
    return lines


def table_of_latency(data):
    widths = (28, 10, 10, 10)
    lines = []
    for release, part in data["latency"].items():
        lines += [f"{NAMES[release]}: milliseconds from send() until journald has the entry, and "
                  "until sd_journal_wait(3) shows it", "",
                  columns(widths, "", "p50", "p99", "p99.9")]
        for name, of in part.items():
            for what in "stored", "readable":
                lines.append(columns(widths, f"{name}, {what}",
                                     *(f"{of[what][p] / 1000:.2f}" for p in ("50", "99", "99.9"))))
        lines.append("")
    return lines


def table_of_relp(data):
    """The rows, and the acknowledgements, which do not mean the same of both."""
    widths = (44, 10, 10)
    lines = table_of_rows(data, "relp")
    for release, of in data["relp"]["latency"].items():
        lines += [f"{NAMES[release]}: milliseconds from send() until acknowledged: by netd when the "
                  "journal has the entry, by imrelp when rsyslog's queue has the message", "",
                  columns(widths, "", "p50", "p99"),
                  *(columns(widths, name, *(f"{usec / 1000:.2f}" for usec in values))
                    for name, values in of.items()), ""]
    return lines


def table_of_tls(data):
    """CPU is that of all processes: netd and netd-tls, netd and haproxy."""
    widths = (44, 14, 20, 16, 8)
    lines = table_of_rows(data, "tls")
    for release, of in data["tls"]["sessions"].items():
        lines += [f"{NAMES[release]}: sessions of one message, ECDSA on P-256", "",
                  columns(widths, "", "handshakes/s", "least to most", "µs, all of it", "lost")]
        for name, runs in of["handshakes"].items():
            rate, least, most = spread(runs, "records_per_second")
            lines.append(columns(widths, name, f"{rate:,.0f}", f"{least:,.0f} to {most:,.0f}",
                                 f"{spread(runs, 'daemon_usec')[0]:.0f}",
                                 sum(run["lost"] for run in runs)))
        lines += ["", *(f"  {name}: {bytes_each / 1000:.1f} KB a session, of 1,000"
                        for name, bytes_each in of["memory"].items()), ""]
    return lines


def table_of_start(data):
    lines = []
    for release, part in data["start"].items():
        for name, values in part.items():
            median, least, most = (statistics.median(values), min(values), max(values))
            lines.append(f"{NAMES[release]}: {name}: {median:.1f} ms ({least:.1f} to {most:.1f})")
    return lines + [""]


def table_of_tuning(data):
    lines = []
    for release, part in data["tuning"].items():
        base = spread(part["as in every row"], "records_per_second")[0]
        lines += [f"{NAMES[release]}: journald's settings, netd with 100 connections", ""]
        for name, runs in part.items():
            rate = spread(runs, "records_per_second")[0]
            lines.append(f"  {name:24} {rate:9,.0f} records/s, {rate / base:.2f} x, journald "
                         f"{spread(runs, 'journald_usec')[0]:.2f} µs")
        lines.append("")
    return lines


TABLES = {"rows": table_of_rows,
          "listeners": lambda data: table_of_rows(data, "listeners"),
          "syslog": lambda data: table_of_rows(data, "syslog"),
          "relp": table_of_relp, "tls": table_of_tls,
          "sessions": table_of_sessions, "latency": table_of_latency, "start": table_of_start,
          "tuning": table_of_tuning}


def text(data):
    lines = [f"Medians of the rounds. Lines of {data['size']} bytes, of the listeners 120; syslog, "
             "RELP and TLS: messages of 160.", ""]
    for part, table in TABLES.items():
        if part not in data:
            continue
        run = data["runs"][part]
        machine = run["machine"]
        lines += [f"{part}: {run['date']}, {run['revision']}; {run['rounds']} rounds of "
                  f"{run['lines']:,} lines; {machine['processors']} processors "
                  f"({machine['processor']}), Linux {machine['kernel']}", "", *table(data)]
    return "\n".join(lines).rstrip() + "\n"


def markdown_table(head, lines):
    """Texts on the left, figures on the right."""
    def row(cells):
        return "| " + " | ".join(cells) + " |"
    return [row(head), "|---|" + "--:|" * (len(head) - 1), *map(row, lines), ""]


def markdown_rows(data, part="rows"):
    """Medians, both releases beside each other."""
    of_part = data[part]
    results = of_part["results"]
    more = ["memory, MB", "lost", "an entry says"] if part == "rows" else ["bytes of journal", "lost"]
    head = ["", *(f"{NAMES[r]}: records/s" for r in results),
            *(f"{NAMES[r]}: µs of its CPU a record" for r in results), *more]
    lines = []
    for row in of_part["rows"]:
        runs = [of[row["name"]] for of in results.values()]
        medians = {key: [spread(r, key)[0] for r in runs]
                   for key in ("records_per_second", "daemon_usec", "memory", "journal_bytes")
                   if key in runs[0][0]}
        lost = str(sum(run["lost"] for r in runs for run in r))
        more = [" / ".join(f"{m / 1e6:.1f}" for m in medians["memory"]), lost, row["attributed"]] \
            if part == "rows" else [" / ".join(f"{m:.0f}" for m in medians["journal_bytes"]), lost]
        lines.append([row["title"], *(f"{m:,.0f}" for m in medians["records_per_second"]),
                      *(f"{m:.2f}" for m in medians["daemon_usec"]), *more])
    return markdown_table(head, lines)


def markdown_relp(data):
    latency = data["relp"]["latency"]
    names = next(iter(latency.values()))
    head = ["milliseconds until acknowledged",
            *(f"{NAMES[r]}: {p}" for r in latency for p in ("p50", "p99"))]
    lines = [[name, *(f"{usec / 1000:.1f}" for of in latency.values() for usec in of[name])]
             for name in names]
    return markdown_rows(data, "relp") + markdown_table(head, lines)


def markdown_tls(data):
    sessions = data["tls"]["sessions"]
    first = next(iter(sessions.values()))
    head = ["", *(f"{NAMES[r]}: {what}" for what in ("handshakes/s", "µs of CPU each", "KB a session")
                  for r in sessions)]
    lines = []
    for name in {**first["handshakes"], **first["memory"]}:
        runs = [of["handshakes"].get(name) for of in sessions.values()]
        memory = [of["memory"].get(name) for of in sessions.values()]
        lines.append([name, *(f"{spread(r, 'records_per_second')[0]:,.0f}" if r else "" for r in runs),
                      *(f"{spread(r, 'daemon_usec')[0]:,.0f}" if r else "" for r in runs),
                      *(f"{m / 1000:.0f}" if m else "" for m in memory)])
    return markdown_rows(data, "tls") + markdown_table(head, lines)


MARKDOWN = {"rows": markdown_rows,
            "listeners": lambda data: markdown_rows(data, "listeners"),
            "syslog": lambda data: markdown_rows(data, "syslog"),
            "relp": markdown_relp, "tls": markdown_tls}


def markdown(data):
    """The tables of the README, each behind a comment with the name of its part."""
    return "".join(f"<!-- bench: {part} -->\n" + "\n".join(table(data)) + "<!-- end -->\n\n"
                   for part, table in MARKDOWN.items() if part in data)


def write_readme(tables):
    path = pathlib.Path(__file__).resolve().parents[2] / "README.md"
    pattern = re.compile(r"^<!-- bench: (\w+) -->\n.*?^<!-- end -->\n", re.M | re.S)
    found = {match[1]: match[0] for match in pattern.finditer(tables)}
    readme = path.read_text(encoding="utf-8")
    path.write_text(pattern.sub(lambda old: found.get(old[1], old[0]), readme), encoding="utf-8")


def escape(string):
    return string.replace("&", "&amp;").replace("<", "&lt;")


def picture(data):
    """Records a second: a bar for each row and release, a line from the least to the most."""
    rows = [r for r in data["rows"]["rows"] if not r["stream"]]
    results = data["rows"]["results"]
    top = max(run["records_per_second"] for runs in results.values() for r in rows
              for run in runs[r["name"]])
    scale = (WIDTH - LABEL - 90) / top
    height = 60 + LINE * len(rows)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
           'font-family="sans-serif" font-size="13" role="img">',
           "<title>Records a second into the journal</title>",
           f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
           '<text x="10" y="24" font-size="15">Records a second stored in the journal</text>']
    x = LABEL + 150
    for release in results:
        out.append(f'<rect x="{x}" y="14" width="12" height="12" fill="{COLOURS[release]}"/>'
                   f'<text x="{x + 18}" y="24">{NAMES[release]}</text>')
        x += 110
    for i, row in enumerate(rows):
        y = 46 + i * LINE
        weight = ' font-weight="bold"' if row["name"].startswith("netd") else ""
        out.append(f'<text x="{LABEL - 10}" y="{y + 15}" text-anchor="end"{weight}>'
                   f'{escape(row["title"])}</text>')
        for n, (release, runs) in enumerate(results.items()):
            rate, least, most = spread(runs[row["name"]], "records_per_second")
            at = y + n * (BAR + 2)
            middle = at + BAR / 2
            out.append(f'<rect x="{LABEL}" y="{at}" width="{rate * scale:.1f}" height="{BAR}" '
                       f'fill="{COLOURS[release]}"/>'
                       f'<path d="M{LABEL + least * scale:.1f} {middle}H{LABEL + most * scale:.1f}" '
                       'stroke="#333333"/>'
                       f'<text x="{LABEL + most * scale + 6:.1f}" y="{at + BAR}" font-size="11">'
                       f'{rate:,.0f}</text>')
    return "\n".join(out + ["</svg>", ""])


def picture_of_sessions(data):
    """Processor time of a record against the number of active sessions."""
    series = {release: [(int(count), spread(runs, "daemon_usec")[0])
                        for count, runs in part["active"].items()]
              for release, part in data["sessions"].items()}
    top = max(usec for points in series.values() for _, usec in points) * 1.2
    counts = [count for count, _ in next(iter(series.values()))]
    width, height, left, bottom = 640, 260, 60, 40
    step = (width - left - 120) / max(1, len(counts) - 1)

    def place(i, usec):
        return left + i * step, (height - bottom) - usec / top * (height - bottom - 40)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
           'font-family="sans-serif" font-size="12" role="img">',
           "<title>Cost of a record against active sessions</title>",
           f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
           '<text x="10" y="20" font-size="14">netd: processor time of a record, µs, against active '
           'sessions</text>',
           f'<path d="M{left} 40V{height - bottom}H{width - 100}" fill="none" stroke="#333333"/>']
    for i, count in enumerate(counts):
        out.append(f'<text x="{place(i, 0)[0]:.0f}" y="{height - bottom + 18}" '
                   f'text-anchor="middle">{count:,}</text>')
    for release, points in series.items():
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in
                        (place(i, usec) for i, (_, usec) in enumerate(points)))
        x, y = place(len(points) - 1, points[-1][1])
        out.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[release]}" '
                   'stroke-width="2"/>'
                   f'<text x="{x + 8:.0f}" y="{y + 4:.0f}" fill="{COLOURS[release]}">'
                   f'{NAMES[release]}, {points[-1][1]:.1f}</text>')
    return "\n".join(out + ["</svg>", ""])


def write(data, out):
    said = text(data)
    (out / "bench.txt").write_text(said, encoding="utf-8")
    (out / "bench.md").write_text(markdown(data), encoding="utf-8")
    if "rows" in data:
        (out / "bench.svg").write_text(picture(data), encoding="utf-8")
    if "sessions" in data:
        (out / "sessions.svg").write_text(picture_of_sessions(data), encoding="utf-8")
    print(said)


if __name__ == "__main__":
    for name in map(pathlib.Path, [a for a in sys.argv[1:] if a != "--readme"]):
        write(json.loads(name.read_text(encoding="utf-8")), name.parent)
        if "--readme" in sys.argv[1:]:
            write_readme((name.parent / "bench.md").read_text(encoding="utf-8"))
