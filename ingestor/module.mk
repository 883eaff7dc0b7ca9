USES := libkoal/base libkoal/env libkoal/http libkoal/bus libkoal/store libkoal/app libtsproto overrides libblock
