# Everything that make does. The test module has its own go.mod; programs that it runs are built once into a cache.
GO       ?= go
TOOL     := $(GO) tool -modfile=$(CURDIR)/tools/go.mod
REPEAT   ?= 1
LIMIT    ?= 30m
PARALLEL ?= 3
PACKAGES ?=
# All of them; what the Kubernetes of other minor versions is built from is tidied by hand, as it takes a download each.
MODULES  := . test test/lab/binaries/cni test/lab/binaries/helm test/repo/release cmd/portcullis-scheduler
export GO REPEAT LIMIT PARALLEL

# The newest one of which all modules can be had.
VULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.8.0

.PHONY: help run test cover soak explore mutate race lint verify vulncheck generate bench load peers scheduler binaries

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## start a real API server with etcd behind the webhook, apply the samples, show what became of them, stay up
	@$(GO) -C test run ./cmd/binaries -exec etcd kube-apiserver kube-controller-manager kube-scheduler kubectl portcullis run

test: binaries ## run all tests, those against the real components among them; PACKAGES=cluster/pools for some
	@test/run.sh $(PACKAGES)

cover: export COVER = 1
cover: test ## run all tests, and print the coverage of each package, by the programs that they start as well

soak: export PORTCULLIS_SOAK = 1
soak: export PORTCULLIS_SEED = random
soak: LIMIT = 180m
soak: race test ## the same tests with larger counts and fresh seeds

explore: binaries ## run the randomised tests with fresh seeds until interrupted, and keep what fails in bin/explore
	$(GO) -C test run ./cmd/explore $(PACKAGES)

mutate: ## change the code in 300 places of each package, and list what its tests do not notice (hours); PACKAGES=pkg/ports for some
	$(GO) -C test run ./cmd/mutate $(PACKAGES)

race: ## run the core's tests under the race detector, which needs a C compiler
	PORTCULLIS_SOAK= PORTCULLIS_SEED= CGO_ENABLED=1 $(GO) test -race ./pkg/... ./webhook/... ./scheduling/...

# The scheduler's own code is one small file on top of kube-scheduler. staticcheck and exhaustive would read all of Kubernetes
# for what they remember of functions and types: 4.6 GB and three times as long, for one file.
lint: ## read the code for mistakes
	$(TOOL) golangci-lint-kube-api-linter run --allow-serial-runners ./...
	cd test && $(TOOL) golangci-lint-kube-api-linter run --allow-serial-runners ./...
	cd test/repo/release && $(TOOL) golangci-lint-kube-api-linter run -c $(CURDIR)/.golangci.yaml --allow-serial-runners ./...
	cd cmd/portcullis-scheduler && $(TOOL) golangci-lint-kube-api-linter run -c $(CURDIR)/.golangci.yaml --disable staticcheck,exhaustive --allow-serial-runners ./...

verify: generate ## fail if something generated, formatted or tidied is not committed
	for module in $(MODULES); do $(GO) -C $$module mod tidy -diff || exit 1; done
	test -z "$$(gofmt -l .)"
	git diff --exit-code

vulncheck: ## look for known vulnerabilities in what is shipped; needs https://vuln.go.dev
	@GOBIN=$(CURDIR)/bin $(GO) install $(VULNCHECK)
	@for module in . cmd/portcullis-scheduler; do \
		(cd $$module && $(CURDIR)/bin/govulncheck ./...); code=$$?; \
		case $$code in 0) ;; 3) exit 3;; *) echo "vulncheck: $$module was not checked: is the database out of reach?" >&2; exit $$code;; esac; \
	done

generate: ## write what is generated: config/crd, config/webhook, config/policies, config/install.yaml, parts of the chart, examples in the docs
	$(TOOL) controller-gen object crd paths=./api/v1alpha1 output:crd:dir=config/crd/bases
	$(GO) test ./pkg/hooks ./api/config/... -run Golden -update >/dev/null
	$(GO) test ./cmd/portcullis/internal/generate -run TestShippedPolicies -update >/dev/null
	$(GO) -C test test ./cluster/install -run Golden -update >/dev/null
	$(GO) -C test test ./repo/docs -run Golden -update >/dev/null

bench: ## run the benchmarks
	$(GO) test -run '^$$' -bench . ./pkg/... ./webhook/... ./scheduling/...

load: ## ask the program until it is slow, beside an empty webhook (about ten minutes)
	cd test && $(GO) test ./perf/load -run '^$$' -bench . -benchtime 3x -timeout 60m

peers: ## compare lint with kube-score and kubeconform, which are built first
	cd test && $(GO) test ./perf/peers -run '^$$' -bench . -count 5 -timeout 30m

scheduler: ## build kube-scheduler with the plugin into bin/
	CGO_ENABLED=0 $(GO) build -C cmd/portcullis-scheduler -trimpath -o ../../bin/portcullis-scheduler \
		-ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2" .

binaries: ## build the programs that the tests run into the user's cache folder, once
	@$(GO) -C test run ./cmd/binaries >/dev/null
