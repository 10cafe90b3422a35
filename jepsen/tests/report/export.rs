use quorate_jepsen::export::{edn::edn, porcupine::logs};

use super::script::history;

#[test]
fn operations_are_told_as_jepsen_tells_them() {
    let entries = history(
        r#"
        0 write k 1 node=2
        0 ok
        1 cas k [1,2] mode=strong
        1 fail error=condition
        2 read k
        2 ok 1
        nemesis kill {"phase":"begin","1st":3,"links":[[1,2]]} node=1
        "#,
    );

    let expected = r#"{:process 0, :type :invoke, :f :write, :value ["k" 1], :time 1000000, :index 0, :node "n2"}
{:process 0, :type :ok, :f :write, :value ["k" 1], :time 2000000, :index 1, :node "n2"}
{:process 1, :type :invoke, :f :cas, :value ["k" [1 2]], :time 3000000, :index 2, :mode "strong"}
{:process 1, :type :fail, :f :cas, :value ["k" [1 2]], :time 4000000, :index 3, :mode "strong", :error "condition"}
{:process 2, :type :invoke, :f :read, :value ["k" nil], :time 5000000, :index 4}
{:process 2, :type :ok, :f :read, :value ["k" 1], :time 6000000, :index 5}
{:process :nemesis, :type :info, :f :kill, :value {"1st" 3, :links [[1 2]], :phase "begin"}, :time 7000000, :index 6, :node "n1"}
"#;
    assert_eq!(edn(&entries), expected);
}

#[test]
fn nothing_is_a_content_of_its_own_for_knossos() {
    let entries = history("0 delete k\n0 ok\n1 read k\n1 ok null\n2 cas k [null,5]\n2 ok");

    let told = edn(&entries);

    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].contains(":f :write, :value [\"k\" :absent]"), "{}", lines[0]);
    assert!(lines[0].ends_with(":was :delete}"));
    assert!(lines[2].contains(":value [\"k\" nil]"));
    assert!(lines[3].contains(":value [\"k\" :absent]"));
    assert!(lines[5].contains(":value [\"k\" [:absent 5]]"));
}

#[test]
fn a_process_in_doubt_goes_on_under_another_number() {
    let entries =
        history("7 write k 1\n7 info error=timeout\n7 write k 2\n7 ok\naudit read k\naudit ok 2");

    let told = edn(&entries);

    let processes: Vec<&str> = told.lines().map(|line| &line[..line.find(',').unwrap()]).collect();
    assert_eq!(
        processes,
        ["{:process 7", "{:process 7", "{:process 8", "{:process 8", "{:process 9", "{:process 9"]
    );
}

#[test]
fn text_in_edn_stays_text() {
    let mut entries = history("0 read k\n0 fail");
    entries[1].error = Some("a \"b\" \\ c\n\u{1b}d".to_owned());

    assert!(edn(&entries).contains(r#":error "a \"b\" \\ c\n\u001bd"}"#));
}

#[test]
fn a_register_is_told_as_porcupine_reads_it() {
    let entries = history(
        "
        0 write k 4
        1 read k
        1 ok null
        0 ok
        2 cas k [4,5]
        2 fail error=condition-not-met
        1 read k
        1 fail error=503
        2 write k 6
        2 info error=timeout
        2 delete k
        2 ok
        3 write k 7
        3 fail error=503
        3 cas k [null,8]
        3 ok
        9 write other 9
        9 ok
        ",
    );

    let logs = logs(&entries).unwrap();

    assert_eq!(logs.keys().collect::<Vec<_>>(), ["k", "other"]);
    let expected = "\
INFO  jepsen.util - 10\t:invoke\t:write\t0
INFO  jepsen.util - 10\t:ok\t:write\t0
INFO  jepsen.util - 0\t:invoke\t:write\t4
INFO  jepsen.util - 1\t:invoke\t:read\tnil
INFO  jepsen.util - 1\t:ok\t:read\t0
INFO  jepsen.util - 0\t:ok\t:write\t4
INFO  jepsen.util - 2\t:invoke\t:cas\t[4 5]
INFO  jepsen.util - 2\t:fail\t:cas\t[4 5]
INFO  jepsen.util - 2\t:invoke\t:write\t6
INFO  jepsen.util - 11\t:invoke\t:write\t0
INFO  jepsen.util - 11\t:ok\t:write\t0
INFO  jepsen.util - 3\t:invoke\t:cas\t[0 8]
INFO  jepsen.util - 3\t:ok\t:cas\t[0 8]
";
    assert_eq!(logs["k"], expected);
}

#[test]
fn what_the_form_cannot_say_is_refused() {
    assert!(logs(&history("0 write k 0\n0 ok")).is_err());
}
