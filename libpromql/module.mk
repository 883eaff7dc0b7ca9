USES := libkoal/base
# Sums of columns: several steps at a time. (Bit for bit the same: no contraction on amd64's baseline.)
flags.libpromql/op_agg := -O3
flags.libpromql/range_even := -O3
# Whether a series has a stale marker.
flags.libpromql/range_source := -O3
