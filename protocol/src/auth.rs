//! AUTH_GLUSTERFS credentials, v2 and v3.
