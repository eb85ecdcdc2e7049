def test_smoke(kafka_bootstrap, kafka_config, make_topic):
    import time

    from infra.kafka import RecordPublisher, RecordReader, create_topics, read_all, record_counts
    from schemas.envelope import Record

    t = time.time()
    assert create_topics(kafka_config) == []
    print("again", time.time() - t)
    topic = make_topic("x", partitions=3)
    with RecordPublisher(kafka_config) as publisher:
        t = time.time()
        for n in range(1000):
            publisher.send(Record(topic=topic, key=b"%d" % n, value=b"v" * 500, headers=(("a", b"b"),)))
        publisher.flush()
        print("1000 sends", time.time() - t)
        t = time.time()
        assert len(list(read_all(kafka_config, [topic]))) == 1000
        print("read", time.time() - t)
        with RecordReader(kafka_config, [topic], from_end=True) as reader:
            publisher.publish([Record(topic=topic, key=b"k", value=b"z", headers=())])
            assert [r.value for r in reader.poll(5)] == [b"z"]
    print(record_counts(kafka_config, [topic]))
