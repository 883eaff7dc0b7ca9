USES := libkoal/base
LIBS := -lmicrohttpd -lnghttp2 -lgnutls -lz -lzstd -lcurl
