# SPDX-License-Identifier: MIT
#
#   make                    builds build/netd, build/netd-tls and build/netd-client
#   make install            PREFIX, SYSCONFDIR, LIBEXECDIR, UNITDIR, CATALOGDIR, DESTDIR as usual
#   make test               unit tests, and contract tests in a container of RELEASE (root)
#   make unit               builds and runs the unit tests
#   make valgrind           unit tests, and a session of both programs, under valgrind
#   make fuzz               runs each fuzzer for SECONDS (60); needs clang and its compiler-rt
#   make fuzz-seeds         adds new coverage of the fuzzers to the seeds in tests/fuzz/corpus
#   make coverage           lines and branches that tests run, and why not the others (root)
#   make soak               MINUTES (30) of clients and faults, then every byte compared (root)
#   make lint               format, static analysers, man pages, scripts
#   make check              all tests, on Debian 12 and 13 (root; installs packages)
#   make check-long         the same in full, without samples; takes hours (root)
#   make check-architectures  unit tests on arm64, s390x and armhf, builds by newer compilers (root)
#   make instructions       instructions per record and per session, with a bound
#   make bench              netd beside every other way into the journal, measured (root)
#   make picture            draws README's picture anew, from a run of netd
#   make quickstart         from a minimal Debian to the first events in the journal (root)
#   make dist               build/netd-VERSION.tar.gz, the release
#   make deb                packages for RELEASE (bookworm, trixie) in build/deb/RELEASE (root)
#   make rpm                the same with rpmbuild of Debian, in build/rpm (root)
#   make check-packages     builds, installs, upgrades and removes them, on both releases (root)
#
# Packagers: CFLAGS, CPPFLAGS, LDFLAGS and HARDENING are yours; the project adds its own flags to
# them. V=1 shows the commands, WERROR=1 makes warnings errors, SANITIZE=address,undefined builds
# into a directory of its own.

PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
BINDIR     ?= $(PREFIX)/bin
SBINDIR    ?= $(PREFIX)/sbin
LIBEXECDIR ?= $(PREFIX)/libexec
DATADIR    ?= $(PREFIX)/share
MANDIR     ?= $(DATADIR)/man
# systemd reads units and catalogs below /usr/lib and /usr/local/lib, so both usual prefixes work.
# (pkg-config's systemdsystemunitdir is /usr/lib, which belongs to packages alone.)
UNITDIR    ?= $(PREFIX)/lib/systemd/system
CATALOGDIR ?= $(PREFIX)/lib/systemd/catalog
EXAMPLEDIR ?= $(DATADIR)/doc/netd
BASHDIR    ?= $(DATADIR)/bash-completion/completions
# fish 3.6 (Debian 12) does not look below /usr/local, but in /etc/fish.
ifeq ($(PREFIX),/usr)
FISHDIR    ?= $(DATADIR)/fish/vendor_completions.d
else
FISHDIR    ?= $(SYSCONFDIR)/fish/completions
endif
ZSHDIR     ?= $(DATADIR)/zsh/site-functions

ifeq ($(origin CC),default)
CC = cc
endif
PKG_CONFIG ?= pkg-config
INSTALL    ?= install
CFLAGS     ?= -O2 -g
HARDENING  ?= $(if $(SANITIZE),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2) -fstack-protector-strong \
              -fPIE -pie -Wl,-z,relro,-z,now

comma := ,
BUILD ?= build$(if $(SANITIZE),/$(subst $(comma),-,$(SANITIZE)))

# Looked up once, and only when compiling or linking: other targets need no libraries.
PKGS         = libsystemd libconfig jansson openssl
PKG_CFLAGS   = $(eval PKG_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PKGS)))$(PKG_CFLAGS)
NETD_LIBS    = $(eval NETD_LIBS := $(shell $(PKG_CONFIG) --libs libsystemd libconfig))$(NETD_LIBS)
CLIENT_LIBS  = $(eval CLIENT_LIBS := $(shell $(PKG_CONFIG) --libs libsystemd jansson openssl))$(CLIENT_LIBS)
TLS_LIBS     = $(eval TLS_LIBS := $(shell $(PKG_CONFIG) --libs openssl))$(TLS_LIBS)
# Only the tests of what uses it load OpenSSL.
UNIT_LIBS    = $(eval UNIT_LIBS := -Wl,--as-needed $(shell $(PKG_CONFIG) --libs cmocka $(PKGS)))$(UNIT_LIBS)

OUR_CPPFLAGS = -Isrc -D_GNU_SOURCE -DSYSCONFDIR='"$(SYSCONFDIR)"' \
               -DLIBEXECDIR='"$(LIBEXECDIR)"' -MMD -MP
OUR_CFLAGS   = -std=gnu11 -Wall -Wextra -Wshadow -Wconversion -Wvla $(if $(WERROR),-Werror) \
               $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer \
                   -fno-sanitize-recover=all)
COMPILE = $(CC) $(OUR_CPPFLAGS) $(PKG_CFLAGS) $(CPPFLAGS) $(OUR_CFLAGS) \
          $(filter-out -pie -Wl%,$(HARDENING)) $(CFLAGS)
LINK    = $(CC) $(OUR_CFLAGS) $(HARDENING) $(CFLAGS) $(LDFLAGS)

Q = $(if $(V),,@)
SILENT := $(findstring s,$(firstword -$(MAKEFLAGS)))
SAY = $(if $(V)$(SILENT),,@printf '  %-6s %s\n' $(1) $(2))

# Each program is a folder with a main.c, and everything below it.
PROGRAMS := $(BUILD)/netd $(BUILD)/netd-tls $(BUILD)/netd-client
FUZZERS := $(patsubst tests/fuzz/%.c,$(BUILD)/tests/fuzz/%,$(wildcard tests/fuzz/fuzz-*.c))
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(wildcard tests/unit/test-*.c))
objects = $(patsubst %.c,$(BUILD)/%.o,$(filter-out %/main.c,$(wildcard $(1)/*.c $(1)/*/*.c)))

all: $(PROGRAMS)

$(BUILD)/netd: $(BUILD)/src/netd/main.o $(BUILD)/libnetd.a $(BUILD)/libtls.a $(BUILD)/libcommon.a
	$(call SAY,LINK,$@)
	$(Q)$(LINK) -o $@ $^ $(NETD_LIBS) $(LDLIBS)

$(BUILD)/netd-tls: $(BUILD)/src/netd-tls/main.o $(BUILD)/libtls.a $(BUILD)/libnetd.a $(BUILD)/libcommon.a
	$(call SAY,LINK,$@)
	$(Q)$(LINK) -o $@ $^ $(TLS_LIBS) $(LDLIBS)

$(BUILD)/netd-client: $(BUILD)/src/netd-client/main.o $(BUILD)/libclient.a $(BUILD)/libcommon.a
	$(call SAY,LINK,$@)
	$(Q)$(LINK) -o $@ $^ $(CLIENT_LIBS) $(LDLIBS)

# netd and netd-tls use parts of each other's library, so the linker goes through them again.
LIBRARIES := $(BUILD)/libnetd.a $(BUILD)/libtls.a $(BUILD)/libclient.a $(BUILD)/libcommon.a
WITH_LIBRARIES = -Wl,--start-group $^ -Wl,--end-group

$(UNIT_TESTS): %: %.o $(LIBRARIES)
	$(call SAY,LINK,$@)
	$(Q)$(LINK) -o $@ $(WITH_LIBRARIES) $(UNIT_LIBS) $(LDLIBS)

$(FUZZERS): %: %.o $(LIBRARIES)
	$(call SAY,LINK,$@)
	$(Q)$(LINK) -fsanitize=fuzzer -o $@ $(WITH_LIBRARIES) $(NETD_LIBS) $(CLIENT_LIBS) $(TLS_LIBS) $(LDLIBS)

$(BUILD)/libnetd.a: $(call objects,src/netd)
$(BUILD)/libclient.a: $(call objects,src/netd-client)
$(BUILD)/libtls.a: $(call objects,src/netd-tls)
$(BUILD)/libcommon.a: $(call objects,src/common)
$(BUILD)/%.a:
	$(call SAY,AR,$@)
	$(Q)mkdir -p $(@D) && rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/%.o: %.c $(BUILD)/flags
	$(call SAY,CC,$<)
	$(Q)mkdir -p $(@D) && $(COMPILE) $(DEFINE) -c -o $@ $<

# A number for what the session table consists of, see table_layout().
TABLE_TEXT = $(shell $(CC) -E -x c -Isrc -D_GNU_SOURCE $(CPPFLAGS) src/netd/session/table.h \
                 2>/dev/null | awk -f src/netd/session/layout.awk | cksum | cut -d ' ' -f 1)
$(BUILD)/src/netd/session/table.o: src/netd/session/layout.awk
$(BUILD)/src/netd/session/table.o: private DEFINE = -DTABLE_TEXT=$(TABLE_TEXT)U

table-text:
	@echo $(TABLE_TEXT)

# Other flags than in the last build rebuild everything.
$(BUILD)/flags: export FLAGS = $(COMPILE) $(HARDENING) $(LDFLAGS)
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' "$$FLAGS" | cmp -s - $@ || printf '%s\n' "$$FLAGS" >$@

-include $(shell find $(BUILD)/src $(BUILD)/tests -name '*.d' 2>/dev/null)

unit: $(UNIT_TESTS)
	$(Q)status=0; for t in $(UNIT_TESTS); do \
	    echo "  TEST   $$t"; $$t || status=1; \
	done; exit $$status
	$(Q)tests/layout.sh

# To run between commits. Keeps the container's file system in build/container.
RELEASE ?= bookworm
test:
	$(Q)mkdir -p build/container && tests/packages.sh build/packages.log dpkg-dev git libcmocka-dev \
	    mmdebstrap python3-pytest systemd-container
	$(Q)$(MAKE) --no-print-directory WERROR=1 unit
	$(Q)NETD_TEST_FILES=build/container flock build/container/lock /usr/bin/python3 -B -m pytest \
	    --release $(RELEASE) tests/system/test_contract_*.py

BENCH_TOOLS := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(wildcard tests/bench/*.c))

$(BENCH_TOOLS): $(BUILD)/bench/%: $(BUILD)/tests/bench/%.o $(BUILD)/libnetd.a $(BUILD)/libcommon.a
	$(call SAY,LINK,$@)
	$(Q)mkdir -p $(@D) && $(LINK) -o $@ $^ $(NETD_LIBS) $(LDLIBS)

$(BUILD)/bench/load: LDLIBS += $(TLS_LIBS)

bench-tools: $(BENCH_TOOLS)

instructions: $(BUILD)/bench/instructions
	$(Q)tests/bench/instructions.sh $<

# BENCH="--rounds 9 --part rows": see tests/bench/bench.py.
bench:
	$(Q)mkdir -p $(BUILD) && tests/packages.sh $(BUILD)/packages.log \
	    dpkg-dev git mmdebstrap systemd-container systemd-journal-remote
	$(Q)$(MAKE) --no-print-directory $(BUILD)/netd-client
	$(Q)tests/bench/bench.py $(BENCH)
	$(Q)tests/bench/client.py $(BUILD)/netd-client

SECONDS ?= 60
fuzz fuzz-seeds:
	$(Q)mkdir -p build && tests/packages.sh build/packages.log clang libclang-rt-dev
	$(Q)$(MAKE) --no-print-directory CC=clang SANITIZE=address,undefined,fuzzer-no-link \
	    $@-all

fuzz-all: $(FUZZERS:%=%.fuzz)
fuzz-seeds-all: $(FUZZERS:%=%.seeds)

FUZZ_NAME = $(patsubst fuzz-%,%,$(notdir $*))
FUZZ_FOUND = $(BUILD)/corpus/$(FUZZ_NAME)
FUZZ_SEEDS = tests/fuzz/corpus/$(FUZZ_NAME)

# Inputs found are the corpus of the next run; inputs that fail stay in build/, too. Prints from
# libFuzzer's summary: edges covered, features (edges with counts), executions.
%.fuzz: % FORCE
	$(Q)mkdir -p $(FUZZ_FOUND); \
	$* -max_total_time=$(SECONDS) -timeout=20 -print_final_stats=1 \
	    -artifact_prefix=$(BUILD)/$(FUZZ_NAME)- $(FUZZ_FOUND) $(FUZZ_SEEDS) >$*.log 2>&1 || \
	    { tail -n 60 $*.log; exit 1; }; \
	awk '/^#[0-9]+.*DONE/ { cov = $$4; ft = $$6 } /number_of_executed_units/ { n = $$2 } \
	    END { printf "  FUZZ   %-8s %10d executions, cov %d, ft %d\n", "$(FUZZ_NAME)", n, cov, ft }' $*.log

# Adds the inputs found that cover more than the seeds.
%.seeds: % FORCE
	$(Q)$* -merge=1 $(FUZZ_SEEDS) $(FUZZ_FOUND) >$*.log 2>&1 || { tail -n 60 $*.log; exit 1; }

# All programs as tests/system/inject.py needs them: any call and allocation can be made to fail.
INJECT = --no-print-directory SANITIZE=address,undefined BUILD=build/inject CFLAGS='-O1 -g' \
         LIBEXECDIR='$(CURDIR)/build/inject' \
         LDLIBS=build/inject/tests/inject/alloc.o
inject:
	$(Q)$(MAKE) $(INJECT) build/inject/tests/inject/alloc.o
	$(Q)$(MAKE) $(INJECT) all build/inject/inject

# alloc.c runs before the sanitizer is initialized; inject itself needs none.
$(BUILD)/tests/inject/alloc.o $(BUILD)/inject: override SANITIZE =

# All unit tests, with PERCENT of their random rounds since valgrind is slow, and one run of both
# programs.
PERCENT ?= 10
valgrind:
	$(Q)mkdir -p build && tests/packages.sh build/packages.log libcmocka-dev valgrind
	$(Q)$(MAKE) --no-print-directory BUILD=build/valgrind HARDENING= valgrind-run

# Without _FORTIFY_SOURCE, whose memmove() valgrind takes for an overlapping memcpy().
valgrind-run: all $(UNIT_TESTS) $(BUILD)/tests/valgrind/fork.so
	$(Q)set -e; for t in $(UNIT_TESTS); do echo "  TEST   $$t"; \
	    NETD_TEST_PERCENT=$(PERCENT) valgrind --quiet --error-exitcode=99 --leak-check=full \
	    --suppressions=tests/valgrind/libconfig.supp $$t; done
	$(Q)tests/valgrind/session.sh $(BUILD)

$(BUILD)/tests/valgrind/fork.so: tests/valgrind/fork.c
	$(Q)mkdir -p $(@D) && $(CC) -D_GNU_SOURCE -shared -fPIC $(CFLAGS) -o $@ $<

MINUTES ?= 30
soak:
	$(Q)mkdir -p build && tests/packages.sh build/packages.log dpkg-dev git mmdebstrap \
	    python3-pytest systemd-container
	$(Q)/usr/bin/python3 -B tests/system/soak.py --minutes $(MINUTES)

# PARTS="unit report": see tests/coverage.py.
coverage:
	$(Q)mkdir -p build && tests/packages.sh build/packages.log dpkg-dev gcovr git libcmocka-dev \
	    mmdebstrap python3-prometheus-client python3-pytest systemd-container systemd-journal-remote
	$(Q)/usr/bin/python3 -B tests/coverage.py $(PARTS)

$(BUILD)/inject: $(BUILD)/tests/inject/inject.o
	$(call SAY,LINK,$@)
	$(Q)$(LINK) -o $@ $^

# The files in systemd/ and man/ name the default paths; the installed ones name the chosen paths.
SUBSTITUTE = sed -e 's|/usr/local/sbin|$(SBINDIR)|g' -e 's|/usr/local/bin|$(BINDIR)|g' \
    -e 's|/usr/local/libexec|$(LIBEXECDIR)|g' \
    -e 's|/etc/default|$(SYSCONFDIR)/default|g' \
    -e 's|/etc/netd|$(SYSCONFDIR)/netd|g' -e 's|/usr/local/share/doc/netd|$(EXAMPLEDIR)|g'
# An existing configuration file belongs to the administrator.
KEEP = sh -c 'test -e "$$2" || $(INSTALL) -D -m 644 "$$1" "$$2"' -
UNCHANGED = sh -c '! cmp -s "$$1" "$$2" || rm -f "$$2"' -
# systemd/netd@.service is a link to netd.service; what differs for an instance is in the drop-in.
UNITS    := netd.service netd.socket netd@.service netd@.socket netd-metrics.socket \
            netd-metrics@.service
INSTANCE := netd@.service.d/instance.conf
# netd.conf is also the reference of all keys: an upgrade does not replace the installed one.
EXAMPLES := $(wildcard systemd/*.conf) etc/netd.conf etc/prometheus-rules.yml
CATALOG  := $(wildcard systemd/netd.catalog)
MAN      := $(wildcard man/*.[1578])
# Only on a running system, as root: not for a package, in a chroot, or for an ordinary user.
LIVE = test -n "$(DESTDIR)" || ! test -d /run/systemd/system || test "$$(id -u)" -ne 0 ||

# Fails with one line if a directory is not writable, before anything is built or removed.
writable:
	@for d in "$(DESTDIR)$(SBINDIR)" "$(DESTDIR)$(BINDIR)" "$(DESTDIR)$(LIBEXECDIR)" \
	    "$(DESTDIR)$(SYSCONFDIR)" \
	    "$(DESTDIR)$(UNITDIR)" "$(DESTDIR)$(DATADIR)"; do \
	    while ! test -e "$$d"; do d=$$(dirname "$$d"); done; \
	    test -w "$$d" || { echo "no permission to write to $$d: run make as root, or set" \
	        "DESTDIR, or PREFIX and SYSCONFDIR" >&2; exit 1; }; \
	done

install: writable all
	$(INSTALL) -D -m 755 $(BUILD)/netd $(DESTDIR)$(SBINDIR)/netd
	$(INSTALL) -D -m 755 $(BUILD)/netd-tls $(DESTDIR)$(LIBEXECDIR)/netd-tls
	$(INSTALL) -D -m 755 $(BUILD)/netd-client $(DESTDIR)$(BINDIR)/netd-client
	@$(KEEP) etc/netd.conf $(DESTDIR)$(SYSCONFDIR)/netd/netd.conf
	@$(KEEP) etc/default/netd $(DESTDIR)$(SYSCONFDIR)/default/netd
	$(INSTALL) -d $(DESTDIR)$(UNITDIR)
	for u in $(UNITS); do \
	    $(SUBSTITUTE) systemd/$$u >$(DESTDIR)$(UNITDIR)/$$u || exit 1; \
	    chmod 644 $(DESTDIR)$(UNITDIR)/$$u; \
	done
	$(INSTALL) -D -m 644 systemd/$(INSTANCE) $(DESTDIR)$(UNITDIR)/$(INSTANCE)
	$(INSTALL) -D -m 644 -t $(DESTDIR)$(CATALOGDIR) $(CATALOG)
	$(INSTALL) -D -m 644 -t $(DESTDIR)$(EXAMPLEDIR) $(EXAMPLES)
	for m in $(MAN); do \
	    $(INSTALL) -D -m 644 -t $(DESTDIR)$(MANDIR)/man$${m##*.} $$m && \
	    $(SUBSTITUTE) $$m >$(DESTDIR)$(MANDIR)/man$${m##*.}/$${m#man/} || exit 1; \
	done
	$(INSTALL) -D -m 644 etc/completion/netd-client.bash $(DESTDIR)$(BASHDIR)/netd-client
	$(INSTALL) -D -m 644 etc/completion/netd-client.fish $(DESTDIR)$(FISHDIR)/netd-client.fish
	$(INSTALL) -D -m 644 etc/completion/netd-client.zsh $(DESTDIR)$(ZSHDIR)/_netd-client
	@$(LIVE) systemctl daemon-reload
	@$(LIVE) journalctl --update-catalog

uninstall: writable
	@$(LIVE) ! test -e $(UNITDIR)/netd.service || { systemctl -q disable $(UNITS); \
	    systemctl -q stop netd.socket netd.service 'netd@*' 'netd-metrics*'; }
	rm -f $(DESTDIR)$(SBINDIR)/netd $(DESTDIR)$(LIBEXECDIR)/netd-tls \
	    $(DESTDIR)$(BINDIR)/netd-client
	rm -f $(addprefix $(DESTDIR)$(UNITDIR)/,$(UNITS) $(INSTANCE))
	@! test -d $(DESTDIR)$(UNITDIR)/$(dir $(INSTANCE)) || \
	    rmdir --ignore-fail-on-non-empty $(DESTDIR)$(UNITDIR)/$(dir $(INSTANCE))
	rm -f $(DESTDIR)$(CATALOGDIR)/netd.catalog
	rm -rf $(DESTDIR)$(EXAMPLEDIR)
	rm -f $(foreach m,$(MAN),$(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(m)))/$(notdir $(m)))
	rm -f $(DESTDIR)$(BASHDIR)/netd-client $(DESTDIR)$(FISHDIR)/netd-client.fish \
	    $(DESTDIR)$(ZSHDIR)/_netd-client
	@$(UNCHANGED) etc/netd.conf $(DESTDIR)$(SYSCONFDIR)/netd/netd.conf
	@$(UNCHANGED) etc/default/netd $(DESTDIR)$(SYSCONFDIR)/default/netd
	@! test -d $(DESTDIR)$(SYSCONFDIR)/netd || \
	    rmdir --ignore-fail-on-non-empty $(DESTDIR)$(SYSCONFDIR)/netd
	@$(LIVE) systemctl daemon-reload
	@$(LIVE) journalctl --update-catalog

LINT_CC := $(wildcard src/*/*.c src/*/*/*.c)
LINT_FLAGS = -std=gnu11 -DTABLE_TEXT=0 $(filter-out -MMD -MP,$(OUR_CPPFLAGS))

lint: lint-format lint-cppcheck lint-shell lint-man $(LINT_CC:%=lint-tidy/%) lint-analyzer

lint-format:
	$(Q)clang-format --dry-run --Werror $(wildcard src/*/*.[ch] src/*/*/*.[ch] tests/*/*.[ch])

# Not memleak, which ignores __attribute__((cleanup)). Not uninit*, which the compilers do better.
lint-cppcheck:
	$(Q)cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,performance,portability \
	    --inline-suppr --suppress=missingIncludeSystem --suppress=memleak \
	    --suppress=uninitvar --suppress=uninitStructMember \
	    $(filter-out -std=%,$(LINT_FLAGS)) src

lint-shell:
	$(Q)shellcheck .ci/run $(wildcard tests/*.sh tests/*/*.sh etc/completion/*.bash etc/packaging/*.sh \
	    etc/packaging/debian/netd.p* etc/packaging/debian/tests/smoke)

lint-man:
	$(Q)! mandoc -T lint -W warning $(MAN) | grep .

# How many states of a function the analyser looks at. With 20000 it takes a fifth of the time.
TIDY_NODES ?= 225000
lint-tidy/%:
	$(Q)said=$$(clang-tidy --quiet $* -- $(LINT_FLAGS) -include tests/lint-errno.h \
	    -Xclang -analyzer-config -Xclang max-nodes=$(TIDY_NODES) 2>&1) || \
	    { printf '%s\n' "$$said" | grep -v 'warnings* generated'; exit 1; }

# All checks of gcc's analyser, except in list.c, where it does not know that tsearch(3) keeps its
# argument.
lint-analyzer: $(LINT_CC:%=lint-analyzer/%)
lint-analyzer/src/netd-client/list.c: ANALYZER = -Wno-analyzer-malloc-leak
lint-analyzer/%:
	$(Q)gcc $(LINT_FLAGS) $(PKG_CFLAGS) -O2 -fanalyzer $(ANALYZER) -Werror -c -o /dev/null $*

check:
	$(Q)tests/check.sh

check-long:
	$(Q)tests/check.sh --long

check-architectures:
	$(Q)tests/architectures.sh

quickstart:
	$(Q)tests/quickstart.sh

picture: $(BUILD)/netd
	$(Q)tests/picture.py $< >$(BUILD)/picture.svg && mv $(BUILD)/picture.svg tests/picture.svg

dist:
	$(Q)etc/packaging/dist.sh

deb: OUTPUT ?= build/deb/$(RELEASE)
rpm: OUTPUT ?= build/rpm
deb rpm: dist
	$(Q)tests/packages.sh build/packages.log git mmdebstrap python3 systemd-container
	$(Q)flock build/packaging-$(RELEASE).lock /usr/bin/python3 -B etc/packaging/build.py $@ \
	    --release $(RELEASE) $(OUTPUT)

check-packages:
	$(Q)mkdir -p build && tests/packages.sh build/packages.log dpkg-dev git mmdebstrap \
	    openssl python3-pytest systemd-container
	$(Q)/usr/bin/python3 -B -m pytest tests/system/test_packages.py --long

# Debian packages that the build needs.
packages:
	@echo make gcc libc6-dev pkg-config libsystemd-dev libconfig-dev libjansson-dev libssl-dev

clean:
	rm -rf build

.PHONY: all table-text install uninstall writable unit test inject valgrind valgrind-run soak coverage \
	fuzz fuzz-all fuzz-seeds fuzz-seeds-all \
	lint lint-format lint-cppcheck lint-shell lint-man lint-analyzer check check-long \
	quickstart picture bench bench-tools instructions dist deb rpm \
	check-packages check-architectures packages clean FORCE
.SECONDARY:
.DELETE_ON_ERROR:
