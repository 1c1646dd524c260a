# A short run of each fuzzer; included by ../Makefile.
#
#   make fuzz                      FUZZ_SECONDS (default 20) for each, from the seeds in fuzz/corpus
#   make fuzz FUZZ_SECONDS=3600    longer; what it finds is kept in build/fuzz/<name>-corpus between runs
#
# A crash leaves its input in build/fuzz and ends with an error. Add that input to fuzz/corpus/<name> with the mend.

FUZZ_CC ?= clang
FUZZ_SECONDS ?= 20
FUZZ_CFLAGS = -std=c11 $(WARNINGS) -O1 -g -fno-omit-frame-pointer -I. -fsanitize=fuzzer,address,undefined \
	-fno-sanitize-recover=undefined
FUZZERS := tar request

FUZZ_PARTS_tar := tar_read.c fault.c
FUZZ_PARTS_request := request.c

.PHONY: fuzz $(FUZZERS:%=fuzz-%)

ifeq ($(shell command -v $(FUZZ_CC)),)
fuzz:
	@echo "skipped fuzzing: $(FUZZ_CC) is not installed"
else
fuzz: $(FUZZERS:%=fuzz-%)
endif

define fuzzer
build/fuzz/$(1)_fuzz: fuzz/$(1)_fuzz.c $(FUZZ_PARTS_$(1)) $(wildcard *.h) fuzz/fuzz.mk
	@mkdir -p $$(@D)
	$$(FUZZ_CC) $$(FUZZ_CFLAGS) $$(filter %.c,$$^) -o $$@

# The first directory receives what is found, the others are only read.
fuzz-$(1): build/fuzz/$(1)_fuzz
	@mkdir -p build/fuzz/$(1)-corpus
	./$$< -max_total_time=$$(FUZZ_SECONDS) -max_len=16384 -rss_limit_mb=512 -timeout=10 -verbosity=0 -print_final_stats=1 \
		-artifact_prefix=build/fuzz/$(1)- build/fuzz/$(1)-corpus fuzz/corpus/$(1)
endef
$(foreach name,$(FUZZERS),$(eval $(call fuzzer,$(name))))
