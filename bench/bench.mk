# Benchmarks that are programs of their own. They look inside the modules they measure.
$(B)/bench/storage $(B)/bench/select $(B)/bench/compact: %: %.o $(call archives,libblock)
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) $+ $(call libs,libblock) -pthread -o $@
# PEERS=1: also what others make of the same recording, where they are installed.
bench-storage: $(B)/bench/storage
	@$< bench/data/scrapes-1s.zst $(B)/bench/filesets
	@$(if $(PEERS),python3 bench/storage_peers.py bench/data/scrapes-1s.zst,true)
bench-select: $(B)/bench/select
	@$< $(or $(SERIES),1000000) $(B)/bench/filesets
bench-compact: $(B)/bench/compact
	@$< $(or $(SERIES),5000) $(B)/bench/filesets
.PHONY: bench-storage bench-select bench-compact

# PEERS=1: also Debian's victoria-metrics and prometheus, in the same run. ARGS: --series, --samples, ...
bench-ingest: all
	@$(if $(PEERS),tests/peers.sh build/peers >/dev/null)
	@python3 bench/ingest.py --bin $(B)/bin $(if $(PEERS),--peers build/peers/bin) $(ARGS)
.PHONY: bench-ingest

# A million series in `koalemos serve`: memory, restart, matchers. ARGS: --series, --samples, --live, ...
$(B)/bench/push: bench/push.c
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) -D_GNU_SOURCE $< -lsnappy -pthread -o $@
bench-head: all $(B)/bench/push
	@python3 bench/head.py --bin $(B)/bin --push $(B)/bench/push $(ARGS)
.PHONY: bench-head

# The same work over a plain folder and an encrypted one. ARGS: --series, --samples, --rounds
bench-encrypted: all $(B)/bench/push
	@python3 bench/encrypted.py --bin $(B)/bin --push $(B)/bench/push $(ARGS)
.PHONY: bench-encrypted

# What cells of 10^6 to 10^9 series would look like, placed by the code that places them.
$(B)/bench/scale: $(B)/bench/scale.o $(call archives,libtsproto)
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) $+ $(call libs,libtsproto) -lm -pthread -o $@
bench-scale: $(B)/bench/scale
	@$<
.PHONY: bench-scale

# Label matchers over a live head of so many series, by set operations.
$(B)/bench/match: $(B)/bench/match.o $(call archives,ingestor)
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) $+ $(call libs,ingestor) -pthread -o $@
bench-match: $(B)/bench/match
	@$< $(or $(SERIES),1000000)
.PHONY: bench-match

# A dashboard over filesets in an object storage, cold and warm: requests, bytes, time. ARGS: --store, --days, --series, ...
bench-s3: all $(B)/bench/push
	@tests/peers.sh build/peers >/dev/null
	@python3 bench/s3.py --bin $(B)/bin --push $(B)/bench/push --peers build/peers/bin $(ARGS)
.PHONY: bench-s3

# Panels over a month, out of pieces of earlier answers. ARGS: --days, --series, --steps
bench-days: all $(B)/bench/push
	@python3 bench/days.py --bin $(B)/bin --push $(B)/bench/push $(ARGS)
.PHONY: bench-days

# A dashboard that repeats, after a flush and after a merge, with reading ahead and without. ARGS: --latency, --series, --hours
bench-prefetch: all
	@python3 bench/prefetch.py --bin $(B)/bin $(ARGS)
.PHONY: bench-prefetch

# PEERS=1: also Debian's victoria-metrics and prometheus, beside it. ARGS: --hours, --seconds
bench-query: all
	@$(if $(PEERS),tests/peers.sh build/peers >/dev/null)
	@python3 bench/query.py --bin $(B)/bin $(if $(PEERS),--peers build/peers/bin) $(ARGS)
.PHONY: bench-query

# What tracing costs a push and a query. ARGS: --rounds
bench-traces: all
	@python3 bench/traces.py --bin $(B)/bin $(ARGS)
.PHONY: bench-traces

# The digest that members of a partition are compared by: ns a sample. SERIES=, SAMPLES=
$(B)/bench/digest: $(B)/bench/digest.o $(call archives,ingestor)
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) $+ $(call libs,ingestor) -pthread -o $@
bench-digest: $(B)/bench/digest
	@$< $(or $(SERIES),10000) $(or $(SAMPLES),480) $(or $(STARTS),0)
.PHONY: bench-digest

# One aggregate in one ingestor, of one partition, by one worker and by two. SERIES=, SAMPLES=, ROUNDS=
$(B)/bench/aggregate: $(B)/bench/aggregate.o $(call archives,ingestor)
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) $+ $(call libs,ingestor) -pthread -o $@
bench-aggregate: $(B)/bench/aggregate
	@rm -rf $(B)/bench/aggregates && mkdir $(B)/bench/aggregates
	@$< $(B)/bench/aggregates $(or $(SERIES),50000) $(or $(SAMPLES),40) $(or $(ROUNDS),15)
.PHONY: bench-aggregate

# What aggregates cost a cell when its ingestors make them. ARGS: --hosts, --seconds, --spread
bench-pushdown: all
	@tests/peers.sh build/peers >/dev/null
	@python3 bench/pushdown.py --bin $(B)/bin --peers build/peers/bin $(ARGS)
.PHONY: bench-pushdown

# An ingestor that lost its disk, with its snapshots in the object storage and with the log alone. ARGS: --series, --samples, --s3
bench-refill: all $(B)/bench/push
	@tests/peers.sh build/peers >/dev/null
	@python3 bench/refill.py --bin $(B)/bin --peers build/peers/bin --push $(B)/bench/push $(ARGS)
.PHONY: bench-refill
