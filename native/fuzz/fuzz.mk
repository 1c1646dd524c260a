# A short run of each fuzzer; included by ../Makefile.
#
#   make fuzz                      FUZZ_SECONDS (default 20) for each, from the seeds in fuzz/corpus, written by hand, and fuzz/found
#   make fuzz FUZZ_SECONDS=3600    longer; what it finds is kept in build/fuzz/<name>-corpus between runs
#   make fuzz-keep                 the fewest inputs of all these that reach what all of them reach become fuzz/found
#   make test                      runs each for TEST_FUZZ_SECONDS (default 5)
#
# A crash leaves its input in build/fuzz and ends with an error. Add that input to fuzz/corpus/<name> with the mend.

FUZZ_CC ?= clang
FUZZ_SECONDS ?= 20
TEST_FUZZ_SECONDS ?= 5
FUZZ_CFLAGS = -std=c11 $(WARNINGS) -O1 -g -fno-omit-frame-pointer -I. -fsanitize=fuzzer,address,undefined \
	-fno-sanitize-recover=undefined
FUZZERS := tar request plan dns

FUZZ_PARTS_tar := tar_read.c grow.c sha256.c fault.c
FUZZ_PARTS_request := request.c
FUZZ_PARTS_plan := plan.c request.c fault.c
FUZZ_PARTS_dns := names.c

.PHONY: fuzz fuzz-keep $(FUZZERS:%=fuzz-%) $(FUZZERS:%=fuzz-keep-%) $(FUZZERS:%=test-fuzz-%)

ifeq ($(shell command -v $(FUZZ_CC)),)
fuzz:
	@echo "skipped fuzzing: $(FUZZ_CC) is not installed"
$(FUZZERS:%=test-fuzz-%): test-fuzz-%:
	@echo "skipped native: fuzz $*: $(FUZZ_CC) is not installed"
else
fuzz: $(FUZZERS:%=fuzz-%)
fuzz-keep: $(FUZZERS:%=fuzz-keep-%)
$(FUZZERS:%=test-fuzz-%): test-fuzz-%:
	@$(call verdict,fuzz $*,$(MAKE) --no-print-directory fuzz-$* FUZZ_SECONDS=$(TEST_FUZZ_SECONDS) >build/fuzz-$*.log 2>&1 || { cat build/fuzz-$*.log; false; })
endif
test: $(FUZZERS:%=test-fuzz-%)

define fuzzer
build/fuzz/$(1)_fuzz: fuzz/$(1)_fuzz.c $(FUZZ_PARTS_$(1)) $(wildcard *.h) fuzz/fuzz.mk
	@mkdir -p $$(@D)
	$$(FUZZ_CC) $$(FUZZ_CFLAGS) $$(filter %.c,$$^) -o $$@

# The first directory receives what is found, the others are only read.
fuzz-$(1): build/fuzz/$(1)_fuzz
	@mkdir -p build/fuzz/$(1)-corpus
	./$$< -max_total_time=$$(FUZZ_SECONDS) -max_len=16384 -rss_limit_mb=512 -timeout=10 -verbosity=0 -print_final_stats=1 \
		-artifact_prefix=build/fuzz/$(1)- build/fuzz/$(1)-corpus fuzz/corpus/$(1) fuzz/found/$(1)

fuzz-keep-$(1): build/fuzz/$(1)_fuzz
	@rm -rf build/fuzz/$(1)-kept && mkdir -p build/fuzz/$(1)-kept build/fuzz/$(1)-corpus
	./$$< -set_cover_merge=1 -max_len=16384 -verbosity=0 build/fuzz/$(1)-kept fuzz/corpus/$(1) fuzz/found/$(1) build/fuzz/$(1)-corpus
	@rm -rf fuzz/found/$(1) && mv build/fuzz/$(1)-kept fuzz/found/$(1)
endef
$(foreach name,$(FUZZERS),$(eval $(call fuzzer,$(name))))

# What reads untrusted bytes, on arm64: the corpora in an emulator. More of the program needs kernel calls that it does not know.
define replayer
build/arm64/fuzz/$(1)_replay: fuzz/replay.c fuzz/$(1)_fuzz.c $(FUZZ_PARTS_$(1)) $(wildcard *.h) fuzz/fuzz.mk
	@mkdir -p $$(@D)
	$$(CC_ARM64) -std=c11 $$(WARNINGS) $$(CFLAGS) -I. -static $$(filter %.c,$$^) -o $$@

replay-arm64-$(1): build/arm64/fuzz/$(1)_replay
	@$$(call verdict,corpus of $(1) (arm64),$$(QEMU_ARM64) $$< fuzz/corpus/$(1)/* fuzz/found/$(1)/*)
endef
$(foreach name,$(FUZZERS),$(eval $(call replayer,$(name))))

.PHONY: $(FUZZERS:%=replay-arm64-%)
ifneq ($(shell command -v $(CC_ARM64) && command -v $(QEMU_ARM64)),)
check-arm64: $(FUZZERS:%=replay-arm64-%)
endif
