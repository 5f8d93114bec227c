# keyd: make help lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN      := bin
FUZZTIME ?= 30s
LINT     := .tools/golangci-lint
LINT_VERSION := v2.15.0

# What cgo needs, what the tests run for real, and the Debian package of each.
PACKAGES := gcc libc6-dev softhsm2 opensc prometheus systemd strace groff-base e2fsprogs mount jq openssl \
  etcd-server etcd-client pgbouncer $(if $(wildcard /usr/lib/postgresql/*/bin/initdb),,postgresql)
# And what the packages and their test under systemd need besides.
SYSTEM_PACKAGES := systemd-container lintian rpm binutils gcc make libc6-dev curl procps sudo dbus
# And what shows that alerts reach a person.
ALERTS_PACKAGES := prometheus-alertmanager
# And what the script runs that bench compares keyd with.
BENCH_PACKAGES := curl openssl
# And what makes the networks of several hosts.
HOSTS_PACKAGES := iproute2
# What makes a bare Debian.
BARE_PACKAGES := mmdebstrap git
# And what stands between keyd and SoftHSM in test-p11-kit.
P11_KIT_PACKAGES := p11-kit-modules
# And what looks at the status page.
PAGE_PACKAGES := chromium fonts-inter fonts-dejavu-core

# What Microsoft's other clients need; an npm that is there, wherever it is from, will do.
CLIENT_PACKAGES := curl python3-azure $(if $(shell command -v npm),,nodejs npm)
AZ_PACKAGES := azure-cli python3-azure
CLIENTS := softhsm-test/clients
NODE_MODULES := $(CLIENTS)/js/node_modules/.package-lock.json

NFPM := .tools/nfpm
NFPM_VERSION := v2.45.2
CYCLONEDX := .tools/cyclonedx-gomod
CYCLONEDX_VERSION := v1.10.0

.PHONY: help check-go deps deps-system deps-clients deps-az deps-alerts deps-p11-kit deps-page deps-bench deps-bare \
	deps-hosts demo-hosts test-hosts build package \
	test-package test-system test-clients test-recordings test-az test-alerts test-consumers \
	test-p11-kit test-page test-bare screenshots demo test simulate decade lint faults fuzz crashtest scale bench \
	bench-crowd idle test-insider clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What runs Go comes after this.
check-go:
	@.ci/check-go
deps deps-system deps-clients deps-az deps-alerts deps-p11-kit deps-page deps-bench deps-bare deps-hosts build \
  simulate decade fuzz $(LINT) $(NFPM) $(CYCLONEDX): | check-go

deps: ## install what the demo and the tests run (apt-get, with sudo when not root)
deps-system: ## install what test-package and test-system run besides
deps-alerts: ## install what test-alerts runs besides
deps-system: PACKAGES += $(SYSTEM_PACKAGES)
deps-clients: ## install what test-clients runs
deps-clients: PACKAGES := $(CLIENT_PACKAGES)
deps-az: ## install what test-az runs
deps-az: PACKAGES := $(AZ_PACKAGES)
deps-alerts: PACKAGES += $(ALERTS_PACKAGES)
deps-p11-kit: ## install what test-p11-kit runs besides
deps-p11-kit: PACKAGES += $(P11_KIT_PACKAGES)
deps-page: ## install what test-page and screenshots run besides
deps-page: PACKAGES += $(PAGE_PACKAGES)
deps-bench: ## install what bench runs besides
deps-bench: PACKAGES += $(BENCH_PACKAGES)
deps-bare: ## install what test-bare runs
deps-bare: PACKAGES := $(BARE_PACKAGES)
deps-hosts: ## install what test-hosts and demo-hosts run besides
deps-hosts: PACKAGES += $(HOSTS_PACKAGES)
deps deps-system deps-clients deps-az deps-alerts deps-p11-kit deps-page deps-bench deps-bare deps-hosts:
	@.ci/install $(PACKAGES)

build: ## build keyd and keyvault-emulator into bin/
	go build -trimpath -o $(BIN)/ ./cmd/...

package: $(NFPM) $(CYCLONEDX) ## build the .deb and the .rpm of keyd-hsm and of keyvault-emulator into dist/
	NFPM=$(NFPM) CYCLONEDX=$(CYCLONEDX) deploy/package/build

$(NFPM):
	GOBIN="$(CURDIR)/.tools" go install github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM_VERSION)

$(CYCLONEDX):
	GOBIN="$(CURDIR)/.tools" go install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(CYCLONEDX_VERSION)

test-package: deps-system package ## the packages: the same bytes twice, lintian, what is in them
	NFPM=$(NFPM) CYCLONEDX=$(CYCLONEDX) deploy/package/check

test-system: deps-system package ## .deb and .rpm under a real systemd (as root; SAMPLE=1 skips the slow parts)
	$(if $(SAMPLE),,NFPM=$(NFPM) deploy/package/next)
	go build -trimpath -o $(BIN)/ ./cmd/keyvault-emulator
	$(MAKE) -s -C softhsm-test/faultmodule OUT=$(CURDIR)/$(BIN)/faultmodule.so
	go test -c -tags system -o $(BIN)/systemtest ./softhsm-test/systemtest
	$(BIN)/systemtest -test.failfast -bin $(CURDIR)/$(BIN) $(if $(SAMPLE),-sample) \
	  -deb "$$(ls $(CURDIR)/dist/keyd-hsm_*.deb)" -rpm "$$(ls $(CURDIR)/dist/keyd-hsm-*.rpm)" \
	  -emulator-deb "$$(ls $(CURDIR)/dist/keyvault-emulator_*.deb)" \
	  -emulator-rpm "$$(ls $(CURDIR)/dist/keyvault-emulator-*.rpm)" \
	  $(if $(SAMPLE),,-next-rpm "$$(ls $(CURDIR)/dist/next/*.rpm)")

test-clients: deps-clients $(NODE_MODULES) ## Microsoft's SDKs against the emulator (UPDATE=1 writes docs/emulator.md)
	go build -trimpath -o $(BIN)/ ./cmd/keyvault-emulator
	@go test -count=1 -v -timeout 20m -tags clients ./$(CLIENTS) -args \
	  -emulator $(CURDIR)/$(BIN)/keyvault-emulator $(if $(UPDATE),-update) \
	  | grep -Ev '^ *(=== |--- PASS|PASS$$|ok )'

test-recordings: ## replay recordings of the real service (testdata of Microsoft's azkeys) against the emulator
	@go test -count=1 -v -timeout 20m -tags recordings ./softhsm-test/recordings \
	  | grep -Ev '^ *(=== |--- PASS|PASS$$|ok )'

test-az: deps-az ## the az command line against keyvault-emulator
	go build -trimpath -o $(BIN)/ ./cmd/keyvault-emulator
	go test -count=1 -tags clients,az -run '^TestAz$$' ./$(CLIENTS) -args -emulator $(CURDIR)/$(BIN)/keyvault-emulator

$(NODE_MODULES): $(CLIENTS)/js/package.json $(CLIENTS)/js/package-lock.json | deps-clients
	cd $(CLIENTS)/js && npm ci --ignore-scripts --silent

test-alerts: deps-alerts build ## real Prometheus and Alertmanager watch the real daemon: faults become alerts, and end
	go test -c -tags alerts -o $(BIN)/alertstest ./softhsm-test/alertstest
	cd softhsm-test/alertstest && $(CURDIR)/$(BIN)/alertstest -test.failfast -bin $(CURDIR)/$(BIN)

test-consumers: deps ## every kind of consumer lives through rotations, retiring, a compromise (not with SAMPLE=1)
	@go test -count=1 -timeout 20m -tags consumers -v ./softhsm-test/consumers $(if $(SAMPLE),-args -sample) \
	  | grep -Ev '^ *(=== |--- PASS|PASS$$)|^ok +.*github'

# Each host is a network namespace, which only root can make; bin/fast/keyd follows a clock that runs faster.
test-hosts: deps-hosts ## several hosts on one store, and what goes wrong between them (as root; SAMPLE=1; KEYS=n, 30)
	go build -trimpath -o $(BIN)/hosts ./softhsm-test/hosts
	$(BIN)/hosts -build $(BIN)/fast/keyd
	@exec $(BIN)/hosts -keyd $(BIN)/fast/keyd $(if $(SAMPLE),-sample) -keys $(or $(KEYS),30) -only '$(ONLY)'

demo-hosts: deps-hosts ## three hosts: the leader is killed in a rotation, and another finishes it (DEMO_SECONDS=n)
	@softhsm-test/demo/build -trimpath -tags killpoints -o $(BIN)/mortal/ ./cmd/keyd ./softhsm-test/hosts
	@exec $(if $(filter 0,$(shell id -u)),,sudo) $(BIN)/mortal/hosts -keyd $(BIN)/mortal/keyd -demo \
	  -seconds $(or $(DEMO_SECONDS),0)

test-page: deps-page ## the status page in a real browser, with 0, 3 and 500 keys and every kind of trouble
	go test -count=1 -tags page -timeout 20m -run '^TestPage' ./internal/web

test-bare: deps-bare ## make demo and make test on a bare Debian 12 (as root; SAMPLE=1: demo only; DEMO_SECONDS=n, 60)
	@SAMPLE=$(SAMPLE) DEMO_SECONDS=$(or $(DEMO_SECONDS),60) exec softhsm-test/bare/run

screenshots: deps-page ## make docs/screenshots anew
	go test -count=1 -tags page -timeout 5m -run '^TestPageForTheDocs$$' ./internal/web \
	  -args -shots $(CURDIR)/docs/screenshots

demo: deps ## a key made in SoftHSM, imported into two vaults, proven and rotated (DEMO_SECONDS=n ends it)
	@softhsm-test/demo/build -trimpath -o $(BIN)/ ./cmd/... ./softhsm-test/demo
	@exec $(BIN)/demo

# They begin first, so that the others do not wait for them at the end.
SLOWEST := ./softhsm-test/e2e ./internal/hsm ./softhsm-test/azurefaults ./internal/rotate \
  ./internal/emulator

# Minutes with the race detector, and nothing in the simulator runs at once.
BROKEN := ^TestABroken(Loop|Host)IsCaught$$

test: deps ## every test (but SKIP=pattern), with the race detector; the last line names tests that lacked a right
	go test -timeout 20m -run '$(BROKEN)' ./internal/simulate
	.ci/test -race -timeout 20m -p 3 -parallel 4 -skip '$(BROKEN)$(if $(SKIP),|$(SKIP))' $(SLOWEST) ./...

P11_KIT_SAMPLE := ^Test(FromEmpty|UnderTheSpy|AStandardKWP|AKilledHSMSide|ACheckTries|AnAuditor|KeydUsesAToken)
test-p11-kit: deps-p11-kit ## the suite of docs/testing-with-your-hsm.md, on a token behind p11-kit-proxy (SAMPLE=1)
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	mkdir "$$dir/tokens"; \
	echo "directories.tokendir = $$dir/tokens" >"$$dir/softhsm2.conf"; \
	export SOFTHSM2_CONF=$$dir/softhsm2.conf KEYD_TEST_MODULE=$$(ls /usr/lib/*/p11-kit-proxy.so) \
	  KEYD_TEST_TOKEN=keyd-test KEYD_TEST_PIN=1234; \
	softhsm2-util --init-token --free --label "$$KEYD_TEST_TOKEN" --pin "$$KEYD_TEST_PIN" --so-pin "$$KEYD_TEST_PIN" \
	  >"$$dir/init" || { cat "$$dir/init"; exit 1; }; \
	go test -count=1 -timeout 20m -parallel 1 -skip PIN $(if $(SAMPLE),-run '$(P11_KIT_SAMPLE)') ./softhsm-test/e2e

test-insider: deps ## every attack from within: on the HSM side's socket, the state, the audit, the retire rule
	@.ci/insider

simulate: ## SEEDS=n simulated stories, FIRST=k onwards (500 from 1), or SEED=k alone with its trace
	@SEEDS=$${SEEDS:-500} go test -count=1 -timeout 0 -v -run '^TestSimulation$$' ./internal/simulate \
	  | grep -Ev '^(=== RUN|--- PASS|PASS$$|ok )'

decade: ## ten simulated years of KEYS=n keys (default 100), by SEED=k (default 1), and what their state costs
	@KEYS=$${KEYS:-100} go test -count=1 -timeout 0 -v -run '^TestADecade' ./internal/simulate \
	  | grep -Ev '^(=== RUN|--- PASS|PASS$$|ok )'

# The build tags of files that belong to one suite, or to a build that can be killed at a chosen point.
TAGS := alerts,az,clients,consumers,killpoints,page,recordings,system
lint: $(LINT) ## gofmt and golangci-lint, which runs go vet
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(LINT) run --build-tags $(TAGS) ./...

$(LINT):
	GOBIN="$(CURDIR)/.tools" go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)

fuzz: ## run every fuzz target, of all packages or those in ROOMS, for FUZZTIME each (default 30s)
	@FUZZTIME=$(FUZZTIME) ROOMS="$(ROOMS)" .ci/fuzz

faults: deps ## an HSM library, an Azure, a network and a disk that misbehave in every known way (as root)
	@{ go test -count=1 -v -timeout 20m -run '^TestFault' ./softhsm-test/e2e -args -every-fault || true; \
	  KEYD_HEAVY=1 go test -count=1 -v -timeout 40m -parallel 8 ./softhsm-test/azurefaults || true; } | awk '\
	  /^=== / { next } \
	  /^faults:/ { tried += $$2; lost += $$5; doubled += $$7; next } \
	  /^--- FAIL/ { failed++ } \
	  /^FAIL/ { bad = 1 } \
	  { print } \
	  END { printf "faults: %d tried, failed %d, lost %d, doubled %d\n", tried, failed, lost, doubled; \
	    exit bad || failed || lost || doubled || !tried }'

crashtest: deps ## the real processes killed at every kill point and at system calls, and what was lost or doubled
	@go test -count=1 -v -timeout 40m -parallel 6 -run '^TestEveryKillPoint$$' ./softhsm-test/e2e -args -every-kill \
	  | grep -Ev '^(=== |--- PASS| +--- (PASS|SKIP)|PASS$$|ok )'

bench: deps-bench ## keyd beside bare calls and a script; its processes; the emulator (SAMPLE=1: whether it still runs)
	$(if $(SAMPLE),,go test -run '^$$' -bench . -benchtime 1x -timeout 20m ./softhsm-test/bench)
	$(if $(SAMPLE),KEYD_BENCH_KEYS=2) go test -run '^$$' -bench . -benchtime $(if $(SAMPLE),1x,5s) ./internal/hsm
	go test -run '^$$' -bench . -benchtime $(if $(SAMPLE),1x,3s) ./internal/emulator

# At most a thousand keys in a vault. CI judges the counts, and nothing judges the times.
scale: deps ## what a key costs, by KEYS=n (10), VAULTS=k, LOOKS=m (3); JUDGE=1 fails above the goals for calls
	go build -trimpath -o $(BIN)/ ./softhsm-test/scale
	@exec $(BIN)/scale -keys $(or $(KEYS),10) -vaults $(or $(VAULTS),0) -looks $(or $(LOOKS),3) \
	  -judge=$(if $(JUDGE),true,false)

idle: deps ## the CPU time that an idle daemon takes with KEYS=n keys (default 40) in two vaults each, both sides
	@go test -count=1 -v -timeout 2h -run '^TestTheCPUTimeOfAnIdleDaemon$$' ./softhsm-test/e2e -args \
	  -idle-keys $${KEYS:-40} | grep -Ev '^(=== RUN|--- PASS|PASS$$|ok )'

bench-crowd: ## what status, page, scrape and idling cost a daemon with 10,000 generated keys, in time and bytes
	go test -run '^$$' -bench 'TenThousandKeys' -benchtime 10x ./internal/daemon
	go test -run '^$$' -bench 'Load' -benchtime 5x ./internal/store/bolt
	go test -run '^$$' -bench 'Scrape|Proof' ./internal/health
	go test -run '^$$' -bench 'Page' ./internal/web

clean: ## remove what the targets made
	rm -rf $(BIN) .tools dist $(CLIENTS)/js/node_modules
