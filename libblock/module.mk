USES := libkoal/base libkoal/env libkoal/store
LIBS := -lzstd -lroaring
