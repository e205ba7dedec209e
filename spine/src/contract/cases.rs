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
            faults:
                connects_when_the_broker_comes
                publish_without_broker_is_queued_then_times_out
                a_publish_that_timed_out_is_never_sent
                a_request_without_broker_ends_at_its_limit
                subscribe_without_broker_times_out
                calls_without_broker_do_not_hang
                the_link_counts_connections
                subscriptions_are_made_again
                subscriptions_come_before_what_is_queued
                what_was_acknowledged_survives_kill
                memory_is_gone_after_a_restart
                an_append_cut_short_is_unresolved
                an_append_to_a_hung_broker_is_found_later
                a_hung_broker_is_noticed
                publish_to_a_hung_broker_does_not_block
                close_without_broker_ends;
            jetstream:
                the_first_append_expects_none
                a_wrong_expectation_is_unresolved_and_not_stored
                a_wrong_expectation_is_not_republished
                an_append_is_republished_with_its_position
                what_no_stream_holds_is_refused
                a_full_stream_refuses_and_stores_nothing
                a_server_without_room_makes_no_stream
                a_server_at_its_limit_is_unavailable
                equal_bytes_are_stored_twice
                last_is_none_or_the_newest
                both_ways_read_the_same
                a_batch_says_whether_more_follow
                a_batch_is_bounded_in_bytes
                last_of_gives_the_last_of_each
                last_of_many_is_complete
                purge_keeps_the_position_and_later
                the_fence_after_a_purge
                snapshots_keep_the_newest_two
                a_limit_without_rollover_refuses_the_new
                ensure_is_repeatable
                ensure_names_what_differs
                many_appends_in_flight_keep_their_answers;
            permissions:
                every_user_can_do_its_work
                a_denied_subscription_is_told
                a_denied_publish_is_not_delivered
                the_speaker_cannot_write_the_log
                a_denied_request_ends_at_its_limit
                a_wrong_password_never_connects;
            accounts:
                a_reply_subject_cannot_make_the_broker_store
                a_reply_subject_cannot_make_the_broker_delete
                where_shields_are_no_stream_listens
                the_log_does_not_hear_the_shields;
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
            assert!($crate::contract::CASES.len() >= 60);
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
