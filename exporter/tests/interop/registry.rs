//! The Information Elements have the numbers, names and types that an independent decoder's table has.

use std::collections::BTreeSet;

use netflow_parser::FieldDataType;
use netflow_parser::variable_versions::ipfix::lookup::{IANAIPFixField, IPFixField};
use pathflow_exporter::information_element::{AbstractDataType, InformationElement};

#[test]
fn elements_are_those_of_the_registry() {
    let mut numbers = BTreeSet::new();
    for element in InformationElement::ALL {
        assert!(numbers.insert((element.enterprise_number(), element.id())), "{element:?} twice");
        let IPFixField::IANA(known) = IPFixField::new(element.id(), None) else { panic!("{element:?}") };
        if element.enterprise_number() != 0 {
            continue;
        }
        // Its letters are large and small in other places.
        assert_eq!(format!("{known:?}").to_lowercase(), element.name().to_lowercase());
        assert_ne!(known, IANAIPFixField::Reserved);
        let is_alike = match element.abstract_data_type() {
            AbstractDataType::Ipv4Address => FieldDataType::from(known) == FieldDataType::Ip4Addr,
            AbstractDataType::Ipv6Address => FieldDataType::from(known) == FieldDataType::Ip6Addr,
            AbstractDataType::MacAddress => FieldDataType::from(known) == FieldDataType::MacAddr,
            AbstractDataType::DateTimeMilliseconds => {
                FieldDataType::from(known) == FieldDataType::DurationMillis
            }
            AbstractDataType::String | AbstractDataType::OctetArray | AbstractDataType::BasicList => {
                matches!(
                    FieldDataType::from(known),
                    FieldDataType::String | FieldDataType::Vec | FieldDataType::ApplicationId
                )
            }
            // Some have types of their own there.
            AbstractDataType::Unsigned8
            | AbstractDataType::Unsigned16
            | AbstractDataType::Unsigned32
            | AbstractDataType::Unsigned64 => !matches!(
                FieldDataType::from(known),
                FieldDataType::String | FieldDataType::Ip4Addr | FieldDataType::Ip6Addr
            ),
        };
        assert!(is_alike, "{element:?} is {:?}", FieldDataType::from(known));
    }
}
