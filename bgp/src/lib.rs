//! pathflow-bgp
