# 000_7fcaf746c425c4eb.txt, In [1]
from multiprocessing import Process, Queue

def f(q):
    q.put([42, None, 'hello'])

if __name__ == '__main__':
    q = Queue()
    p = Process(target=f(q))
    p.start()
    print(q.get())    # prints "[42, None, 'hello']"
    p.join()
