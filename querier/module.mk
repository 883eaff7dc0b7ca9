USES := libkoal/base libkoal/env libkoal/http libkoal/bus libkoal/store libkoal/app libtsproto overrides libblock libpromql
# Its page is put into the program as it is (api_page.c).
$(B)/querier/api_page.o: $(wildcard querier/page/page.*)
# Whether a chunk has start times, and other loops over its columns.
flags.querier/decode := -O3
