//! The list of cases, once; the macros make tests and the table of names from it.

/// Hands the list of cases to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __contract_cases {
    ($then:ident $($arg:tt)*) => {
        $crate::$then! { ($($arg)*)
            core:
                messages_arrive_in_order
                every_byte_arrives_as_sent
                wildcards_stand_for_tokens
                a_queue_group_shares_the_messages
                a_reply_subject_can_be_answered
                no_responder_is_told_to_the_reply_subject
                a_request_gets_the_first_answer
                a_request_without_responder_fails_at_once
                a_request_ends_at_its_limit
                too_big_is_refused_before_it_is_sent
                a_subscription_is_confirmed
                a_full_subscription_says_how_many_it_lost
                lost_comes_before_the_next_message
                dropping_a_subscription_unsubscribes
                clones_share_one_connection
                the_link_names_the_broker
                close_writes_out_what_is_queued
                close_ends_everything;
        }
    };
}

/// One `#[test]` for each case of the contract, in modules named like the suite's files, for one
/// [`World`](crate::contract::World); and one that prints their number.
#[macro_export]
macro_rules! contract_tests {
    ($world:ident) => {
        $crate::__contract_cases! { __contract_tests $world }

        #[test]
        fn contract_count() {
            println!("contract: {} cases on {}", $crate::contract::CASES.len(), stringify!($world));
            assert!(!$crate::contract::CASES.is_empty());
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __contract_tests {
    (($world:ident) $($module:ident: $($case:ident)*;)*) => {
        $(mod $module {
            $(
                #[test]
                fn $case() {
                    $crate::contract::run::<super::$world>(
                        concat!(stringify!($module), "::", stringify!($case)),
                        $crate::contract::$module::$case::<super::$world>(),
                    );
                }
            )*
        })*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __contract_names {
    (() $($module:ident: $($case:ident)*;)*) => {
        &[$($(concat!(stringify!($module), "::", stringify!($case)),)*)*]
    };
}

/// The names of all cases, `module::case`.
pub const CASES: &[&str] = __contract_cases!(__contract_names);
