# 000_7fcaf746c425c4eb.txt, In [1]
from multiprocessing import Process, Pipe

def f(conn):
    conn.send([42, None, 'hello'])
    conn.close()

if __name__ == '__main__':
    parent_conn, child_conn = Pipe()
    p = Process(target=f(child_conn))
    p.start()
    print(parent_conn.recv())   # prints "[42, None, 'hello']"
    p.join()
