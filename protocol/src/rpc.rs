//! ONC RPC call and reply headers.
