# Builds, installs, shows and tests windlass. `make help` lists the targets and the variables.
#
# The binary is static (musl), and cargo itself decides what is out of date. The plugin's root filesystem is made anew when the
# content of the binary, the Dockerfile or plugin/rootfs changed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PLUGIN ?= windlass:latest
STATE ?=
PREFIX ?= /usr/local
DESTDIR ?=
COMPILE ?=
ARGS ?=

target := x86_64-unknown-linux-musl
binary := $(or $(CARGO_TARGET_DIR),target)/$(target)/release/windlass
rootfs := build/plugin/rootfs
sudo := $(if $(filter 0,$(shell id -u)),,sudo)
engine_answers := timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
scripts := plugin/base-image plugin/rootfs plugin/create plugin/install plugin/unused plugin/uninstall \
    packaging/setup demo/run demo/clean .ci/run .ci/deny .ci/install-musl-target

# The C code of mimalloc and SQLite is compiled for musl too.
export CC_x86_64_unknown_linux_musl ?= musl-gcc
# Of libdevmapper, only the headers are used, which are the same for musl; pkg-config must be told that.
export PKG_CONFIG_ALLOW_CROSS ?= 1

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PLUGIN=NAME     the plugin's name (windlass:latest)"
	@echo "  STATE=DIR       the plugin's state directory on the host (/var/lib/windlass)"
	@echo "  PREFIX=DIR      where the binary and the unit are installed (/usr/local); DESTDIR=DIR for packagers"
	@echo "  COMPILE=docker  compile in the Dockerfile's builder stage, not with cargo here"
	@echo "  ARGS=...        more arguments for the test runner"

# --- building ---

.PHONY: setup
setup: ## Install what building, testing and running need (Debian, Ubuntu)
	@packaging/setup

.PHONY: build
build: ## Build the static release binary, below target/x86_64-unknown-linux-musl/release
	@command -v "$$CC_x86_64_unknown_linux_musl" >/dev/null || \
	    { echo "$$CC_x86_64_unknown_linux_musl is missing: run 'make setup'" >&2; exit 1; }
	cargo build --release --locked --target $(target)
	@! readelf --program-headers $(binary) | grep -q INTERP || { echo "$(binary) is not static" >&2; exit 1; }
	@echo "$(binary): static, $$(du -h $(binary) | cut -f1)"

.PHONY: base-image
base-image: ## Get debian:bookworm-slim: there already, or pulled, or made by debootstrap
	@plugin/base-image

.PHONY: rootfs
rootfs: build/plugin/rootfs.made build/plugin/windlass ## Build the plugin's root filesystem, in build/plugin/rootfs

ifeq ($(COMPILE),docker)
build/plugin/rootfs.made: Cargo.toml Cargo.lock $(shell find src -type f)
build/plugin/windlass: build/plugin/rootfs.made
	@install $(rootfs)/usr/bin/windlass $@
else
# A copy that keeps its date while the content is the same, and lies where docker build finds it whatever cargo's directory.
build/plugin/windlass: build
	@mkdir -p build/plugin
	@cmp -s $(binary) $@ || install $(binary) $@
build/plugin/rootfs.made: build/plugin/windlass
endif
build/plugin/rootfs.made: Dockerfile .dockerignore plugin/rootfs | base-image
	@COMPILE=$(COMPILE) plugin/rootfs $(rootfs)
	@touch $@

.PHONY: box
box: base-image ## Build the image windlass-box, a shell for the demo and the tests
	@docker image inspect windlass-box >/dev/null 2>&1 || docker build --quiet --tag windlass-box - <plugin/box.Dockerfile

.PHONY: plugin
plugin: rootfs ## Create the docker plugin, not yet enabled
	@plugin/create $(PLUGIN) $(rootfs)

# --- installing ---

.PHONY: install
install: rootfs ## Install and enable the plugin, or upgrade it keeping its settings; install the command line
	@plugin/install $(PLUGIN) $(STATE)
	@$(sudo) install -D build/plugin/windlass $(DESTDIR)$(PREFIX)/bin/windlass
	@echo "Try: docker volume create -d $(PLUGIN) first && sudo windlass list"

.PHONY: upgrade
upgrade: install ## The same as install; plugin/README.md says what an upgrade keeps

.PHONY: uninstall
uninstall: ## Remove the plugin and the command line; volumes and records stay, and it says where
	@plugin/uninstall $(PLUGIN)
	@[ -e $(DESTDIR)$(PREFIX)/lib/systemd/system/windlass.service ] || $(sudo) rm -f $(DESTDIR)$(PREFIX)/bin/windlass

.PHONY: install-service
install-service: build ## Install windlass as a plain systemd service, without a docker plugin
	@$(sudo) install -D $(binary) $(DESTDIR)$(PREFIX)/bin/windlass
	@$(sudo) install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)/etc/default $(DESTDIR)/etc/windlass
	@sed 's,/usr/local/,$(PREFIX)/,' packaging/windlass.service | \
	    $(sudo) tee $(DESTDIR)$(PREFIX)/lib/systemd/system/windlass.service >/dev/null
	@[ -e $(DESTDIR)/etc/default/windlass ] || $(sudo) install -m 0644 packaging/windlass.default $(DESTDIR)/etc/default/windlass
	@[ -e $(DESTDIR)/etc/windlass/windlass.toml ] || \
	    $(sudo) install -m 0644 packaging/windlass.toml $(DESTDIR)/etc/windlass/windlass.toml
	@[ -n "$(DESTDIR)" ] || ! [ -d /run/systemd/system ] || $(sudo) systemctl daemon-reload
	@echo "Installed. Settings: /etc/default/windlass. Start it: systemctl enable --now windlass"

.PHONY: uninstall-service
uninstall-service: ## Remove the service and the binary; settings, volumes and records stay
	@[ -n "$(DESTDIR)" ] || ! [ -d /run/systemd/system ] || $(sudo) systemctl disable --now windlass || true
	@$(sudo) rm -f $(DESTDIR)$(PREFIX)/lib/systemd/system/windlass.service $(DESTDIR)$(PREFIX)/bin/windlass
	@echo "Removed. What it leaves: /etc/default/windlass, /etc/windlass, and /var/lib/windlass with the volumes' data."

# --- showing and testing ---

.PHONY: demo
demo: setup ## Show it at work: with docker where an engine answers, else the daemon alone
	@if $(engine_answers); then $(MAKE) --no-print-directory rootfs box; \
	    else $(MAKE) --no-print-directory build/plugin/windlass; fi
	@demo/run

.PHONY: demo-clean
demo-clean: ## Remove everything that the demo made
	@demo/clean

# With nextest where it is there. The tests that need an engine find the plugin's root filesystem in WINDLASS_TEST_PLUGIN_ROOTFS.
.PHONY: test
test: setup ## Run unit tests, integration tests, and plugin tests in the real engine
	@if $(engine_answers); then \
	    $(MAKE) --no-print-directory rootfs box; \
	    export WINDLASS_TEST_PLUGIN_ROOTFS=$(abspath $(rootfs)); \
	else \
	    echo "No Docker engine answers: tests that need one are skipped"; \
	fi; \
	if command -v cargo-nextest >/dev/null; then \
	    cargo test --locked --doc; \
	    status=0; cargo nextest run --locked $(ARGS) || status=$$?; \
	    grep -oh 'SKIPPED: [^<]*' $(or $(CARGO_TARGET_DIR),target)/nextest/default/junit.xml | sort -u || true; \
	    exit $$status; \
	else \
	    cargo test --locked $(ARGS); \
	fi

# Where this machine's kernel has no thin pools, each of these tests runs itself in a guest kernel (tests/guest/run).
.PHONY: test-dm
test-dm: setup ## Run the tests of the devicemapper driver alone
	@if command -v cargo-nextest >/dev/null; then \
	    cargo nextest run --locked -E 'test(devicemapper::) + binary(devicemapper)' $(ARGS); \
	else \
	    cargo test --locked --lib devicemapper:: $(ARGS) && cargo test --locked --test devicemapper $(ARGS); \
	fi

.PHONY: bench
bench: ## Run the benchmarks; WINDLASS_BENCH_ONLY=image, tree, large or s3 picks one of those of backups
	$(if $(WINDLASS_BENCH_ONLY),,cargo bench --locked --bench daemon)
	cargo bench --locked --bench backup

.PHONY: bench-dm
bench-dm: setup ## Measure the devicemapper driver against the bare commands, and its deltas against thin_delta
	cargo test --release --locked --lib -- --include-ignored --nocapture devicemapper::tests::figures
	cargo test --release --locked --lib -- --nocapture a_difference_in_a_large_pool

.PHONY: fmt
fmt: ## Format the code
	cargo fmt

.PHONY: lint
lint: ## Check format, lints, links in the documentation of the code, scripts and JSON
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items
	@python3 -m json.tool plugin/config.json >/dev/null
	@if command -v shellcheck >/dev/null; then shellcheck $(scripts); else echo "shellcheck is missing: scripts not checked"; fi

.PHONY: clean
clean: ## Remove what was built here, and the images made from it
	cargo clean
	@! $(engine_answers) || docker image rm windlass-tour >/dev/null 2>&1 || true
	rm -rf build/plugin build/ci-tools
	@! $(engine_answers) || docker image rm windlass-rootfs windlass-tools windlass-box >/dev/null 2>&1 || true
