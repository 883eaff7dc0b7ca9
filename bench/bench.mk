# Benchmarks that are programs of their own. They look inside the modules they measure.
$(B)/bench/storage: $(B)/bench/storage.o $(call archives,libblock)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $+ $(call libs,libblock) -pthread -o $@
bench-storage: $(B)/bench/storage
	@$< bench/data/scrapes-1s.zst $(B)/bench/filesets
.PHONY: bench-storage
